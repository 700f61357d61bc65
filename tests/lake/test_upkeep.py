"""Upkeep: rows stay what they are, whoever reads and writes meanwhile; what is dead goes."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp import cli
from lakeinterp.errors import ConfigError, DamagedFile, NotFound, SchemaError
from lakeinterp.lake import Lake, commits, compaction, upkeep
from lakeinterp.lake.activations import COLUMNS, ROW_GROUP, WRITER, write_activations
from lakeinterp.lake.merge import merge
from lakeinterp.lake.schema import TABLES
from tests.planted import CAPTURE, HOOKPOINT, planted_lake

ALL_ROWS = "SELECT hookpoint, bucket, latent, token, value FROM activations ORDER BY ALL"
WEEK_S = 7 * 24 * 3600


@pytest.fixture
def planted(tmp_path):
    return planted_lake(str(tmp_path / "lake"), n_sequences=60, n_shards=6)


def rows(lake: Lake, where: str = "true"):
    return lake.sql(ALL_ROWS.replace(" ORDER", f" WHERE {where} ORDER")).fetchall()


def shard(lake: Lake, name: str, tokens, *, capture: str = CAPTURE, latent: int = 0):
    """Write a file with one latent and commit it."""
    tokens = np.asarray(tokens, np.int64)
    files = write_activations(
        lake.store,
        capture=capture,
        hookpoint=HOOKPOINT,
        latents_per_bucket=4,
        latents=np.full(len(tokens), latent, np.int32),
        tokens=tokens,
        values=np.ones(len(tokens), np.float32),
        name=name,
    )
    assert lake.publish("activations", files, app=f"capture/{capture}/{name}", version=1)
    return files[0]


def sorted_table(keys) -> pa.Table:
    latents, tokens = zip(*sorted(keys), strict=True) if keys else ((), ())
    values = np.asarray(tokens, np.float32) * 3 + np.asarray(latents, np.float32)
    return pa.table([np.array(latents, np.int32), np.array(tokens, np.int64), values],
                    schema=COLUMNS)  # fmt: skip


# -- compact ----------------------------------------------------------------------------------


def test_compaction_makes_one_file_a_unit_and_changes_no_row(planted):
    lake, before = planted.lake, rows(planted.lake)
    assert len(lake.files("activations")) == 18
    done = compaction.compact(lake)
    assert len(lake.files("activations")) == 3
    assert rows(lake) == before
    assert done.n_rows == len(before)
    again = compaction.compact(lake)
    assert (again.n_rows, again.n_files_after) == (0, again.n_files_before)


def test_compacted_files_keep_order_encodings_and_statistics(planted):
    lake = planted.lake
    compaction.compact(lake)
    for path in lake.files("activations"):
        file = pq.ParquetFile(path)
        found = file.read(["latent", "token"]).to_pandas()
        assert found.equals(found.sort_values(["latent", "token"], ignore_index=True))
        meta = file.metadata.row_group(0)
        encodings = [set(meta.column(i).encodings) for i in range(3)]
        assert "RLE_DICTIONARY" in encodings[0]
        assert "DELTA_BINARY_PACKED" in encodings[1]
        assert "BYTE_STREAM_SPLIT" in encodings[2]
        assert [c.column_index for c in meta.sorting_columns] == [0, 1]
    delta = lake.table("activations")
    assert delta is not None
    for live in commits.live_files(delta):
        inside = rows(lake, f"bucket = {live.partition['bucket']}")
        assert live.n_rows == len(inside)
        assert live.minimum["latent"] == inside[0][2]
        assert live.maximum["latent"] == inside[-1][2]
        assert live.minimum["token"] == min(row[3] for row in inside)
        assert live.maximum["token"] == max(row[3] for row in inside)
    assert lake.files("activations", "latent = 99") == []


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    files=st.lists(
        st.sets(st.tuples(st.integers(0, 6), st.integers(0, 40)), max_size=30), min_size=1,
        max_size=5,
    ),
    group=st.integers(1, 7),
    step=st.integers(1, 20),
)  # fmt: skip
def test_merge_is_a_sort_of_everything(tmp_path_factory, files, group, step):
    """Whatever the row groups, the overlap and the size of a step."""
    folder = tmp_path_factory.mktemp("merge")
    seen: set[tuple[int, int]] = set()
    sources, kept = [], []
    for number, keys in enumerate(files):
        kept.append(keys - seen)
        seen |= keys
        path = folder / f"{number}.parquet"
        pq.write_table(sorted_table(kept[-1]), path, row_group_size=group, **WRITER)
        sources.append((str(path), BytesIO(path.read_bytes())))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lakeinterp.lake.merge.STEP_ROWS", step)
        done = merge(sources, str(folder / "m"), largest_token=40, largest_latent=6)
    assert pq.read_table(folder / "m").equals(sorted_table(seen))
    assert done.n_rows == len(seen)
    if seen:
        assert done.minimum == {"latent": min(seen)[0], "token": min(t for _, t in seen)}
        assert done.maximum == {"latent": max(seen)[0], "token": max(t for _, t in seen)}


def test_merge_of_many_rows_makes_row_groups_of_one_size(tmp_path):
    n = ROW_GROUP + 1000
    for part in range(3):
        table = pa.table(
            [np.zeros(n, np.int32), np.arange(n) * 3 + part, np.ones(n, np.float32)],
            schema=COLUMNS,
        )
        pq.write_table(table, tmp_path / str(part), row_group_size=ROW_GROUP, **WRITER)
    sources = [(str(part), BytesIO((tmp_path / str(part)).read_bytes())) for part in range(3)]
    merge(sources, str(tmp_path / "m"), largest_token=3 * n, largest_latent=0)
    meta = pq.ParquetFile(tmp_path / "m").metadata
    assert [meta.row_group(i).num_rows for i in range(4)] == [ROW_GROUP] * 3 + [3000]
    assert pq.read_table(tmp_path / "m")["token"].to_pylist() == list(range(3 * n))


def test_row_that_two_files_hold_is_refused_and_nothing_is_committed(planted):
    lake = planted.lake
    shard(lake, "a", [10**6])
    shard(lake, "b", [10**6])
    before = rows(lake)
    with pytest.raises(SchemaError, match="a row is in two files"):
        compaction.compact(lake)
    assert rows(lake) == before
    assert not list(Path(lake.root).rglob("merged-*bucket=0*"))


def test_file_of_another_order_is_refused_by_name(tmp_path):
    pq.write_table(sorted_table({(1, 1), (0, 5)})[::-1], tmp_path / "x", **WRITER)
    with (tmp_path / "x").open("rb") as file, pytest.raises(SchemaError, match="x: rows are not"):
        merge([("x", file)], str(tmp_path / "m"), largest_token=9, largest_latent=9)


def test_file_with_tokens_above_its_statistics_is_refused(tmp_path):
    pq.write_table(sorted_table({(1, 17)}), tmp_path / "x", **WRITER)
    with (tmp_path / "x").open("rb") as file, pytest.raises(SchemaError, match="above what the"):
        merge([("x", file)], str(tmp_path / "m"), largest_token=9, largest_latent=9)


def test_torn_file_stops_compaction_by_name_and_keeps_the_rest(planted):
    lake = planted.lake
    victim = next(f for f in lake.files("activations", "bucket = 1"))
    Path(victim).write_bytes(Path(victim).read_bytes()[:200])
    with pytest.raises(DamagedFile, match=r"bucket=1.*\.parquet: the table names it"):
        compaction.compact(lake)
    assert len(lake.files("activations", "bucket = 1")) == 6
    assert not list(Path(lake.root).rglob("*.partial"))


def test_reader_that_began_before_a_compaction_reads_to_its_end(planted):
    lake, before = planted.lake, rows(planted.lake)
    with lake.connect() as con:
        compaction.compact(lake)
        assert con.execute(ALL_ROWS).fetchall() == before


def test_rows_appended_during_a_merge_stay(planted):
    lake, before = planted.lake, rows(planted.lake)
    key = {"capture": CAPTURE, "hookpoint": HOOKPOINT, "bucket": 0}
    delta = lake.table("activations")
    assert delta is not None
    group = compaction.group_of(commits.live_files(delta, **key))
    merged = compaction._joined(lake, "activations", key, compaction._merge, group)
    shard(lake, "new", [10**6])
    assert compaction._swapped(lake, "activations", group, merged)
    assert rows(lake) == sorted([*before, (HOOKPOINT, 0, 0, 10**6, 1.0)])


def test_second_of_two_compactions_of_the_same_files_is_dropped(planted):
    lake, before = planted.lake, rows(planted.lake)
    key = {"capture": CAPTURE, "hookpoint": HOOKPOINT, "bucket": 0}
    delta = lake.table("activations")
    assert delta is not None
    group = compaction.group_of(commits.live_files(delta, **key))
    first, second = (
        compaction._joined(lake, "activations", key, compaction._merge, group) for _ in range(2)
    )
    assert compaction._swapped(lake, "activations", group, first)
    assert not compaction._swapped(lake, "activations", group, second)
    assert rows(lake) == before
    assert not Path(lake.store.path("activations", second.path)).exists()


def test_two_commits_that_remove_one_file_cannot_both_succeed(planted):
    """The package lets them: without the counter every row would be there twice."""
    lake, before = planted.lake, rows(planted.lake)
    address = lake.store.address("activations")
    same = [DeltaTable(address) for _ in range(2)]
    key = {"capture": CAPTURE, "hookpoint": HOOKPOINT, "bucket": 0}
    group = compaction.group_of(commits.live_files(same[0], **key))
    merged = [
        compaction._joined(lake, "activations", key, compaction._merge, group) for _ in range(2)
    ]
    swap = {"old": group, "data_change": False}
    assert commits.swap(same[0], "activations", new=merged[:1], **swap)
    with pytest.raises(CommitFailedError):
        commits.swap(same[1], "activations", new=merged[1:], **swap)
    assert rows(lake) == before


def hookpoint(name: str, l0: float = 1.0) -> dict[str, object]:
    return {
        **dict.fromkeys(TABLES["hookpoints"].columns), "capture": "c", "hookpoint": name, "l0": l0
    }  # fmt: skip


def test_small_tables_become_one_file_a_partition(planted):
    lake = planted.lake
    for i in range(5):
        lake.upsert("hookpoints", [hookpoint(f"h{i}")], scope={"capture": "c"})
        for name in ("a", "b"):
            row = {**dict.fromkeys(TABLES["scores"].columns), "capture": "c", "hookpoint": name}
            row |= {"explanation": f"e{i}", "scorer": "s", "settings": "s", "metric": "m"}
            lake.upsert("scores", [row], scope={"capture": "c", "hookpoint": name})
    names = ("hookpoints", "scores", "captures", "sequences")
    before = {name: lake.rows(name) for name in names}
    compaction.compact(lake)
    assert {name: lake.rows(name) for name in names} == before
    assert [len(lake.files(name)) for name in names] == [1, 2, 1, 1]


def test_sequences_are_joined_in_their_order_with_statistics(tmp_path):
    lake = Lake(str(tmp_path))
    schema = TABLES["sequences"].schema
    for first in (4, 0, 2):
        columns = {**dict.fromkeys(schema.names, [None] * 2), "sequence": [first, first + 1]}
        del columns["corpus"]
        file = lake.store.write_parquet(
            "sequences",
            pa.table(columns, schema=pa.schema([f for f in schema if f.name != "corpus"])),
            schema=schema, partition={"corpus": "c"}, name=str(first), statistics=("sequence",),
        )  # fmt: skip
        lake.publish("sequences", [file], app=f"sequences/c/{first}", version=2)
    compaction.compact(lake)
    [path] = lake.files("sequences")
    assert pq.ParquetFile(path).read(["sequence"])["sequence"].to_pylist() == list(range(6))
    assert lake.files("sequences", "sequence = 6") == []
    assert lake.files("sequences", "sequence = 5") == [path]


def test_row_replaced_while_its_table_is_compacted_does_not_come_back(tmp_path, monkeypatch):
    lake = Lake(str(tmp_path))
    for i in range(3):
        lake.upsert("hookpoints", [hookpoint(f"h{i}")], scope={"capture": "c"})
    real, done = compaction._whole, []

    def late(*arguments):
        if not done:
            done.append(Lake(lake.root).upsert("hookpoints", [hookpoint("h1", 9.0)], scope={}))
        return real(*arguments)

    monkeypatch.setattr(compaction, "_whole", late)
    compaction.compact(lake)
    assert [(r["hookpoint"], r["l0"]) for r in lake.rows("hookpoints")] == [
        ("h0", 1.0), ("h1", 9.0), ("h2", 1.0),
    ]  # fmt: skip
    assert len(lake.files("hookpoints")) == 1


def _compact(root: str) -> None:
    compaction.compact(Lake(root))


def test_two_compactions_and_a_writer_at_one_time_lose_and_double_nothing(planted):
    lake, before = planted.lake, rows(planted.lake)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_compact, args=(lake.root,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    new = []
    while any(worker.is_alive() for worker in workers):
        token = 10**6 + len(new)
        shard(lake, f"s{token}", [token])
        new.append((HOOKPOINT, 0, 0, token, 1.0))
        time.sleep(0.05)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert rows(lake) == sorted(before + new)
    compaction.compact(lake)
    assert rows(lake) == sorted(before + new)
    assert len(lake.files("activations")) == 3


def live(name: str, n_bytes: int) -> commits.Live:
    return commits.Live(name, n_bytes, None, {}, {}, {})


MB = 2**20


@pytest.mark.parametrize(
    ("sizes", "n_chosen"),
    [
        ([], 0),
        ([5 * MB], 0),
        ([1, 1], 2),
        ([MB] * 200, 64),
        ([MB, 900 * MB], 0),
        ([20 * MB, 300 * MB, 310 * MB], 2),
        ([600 * MB, 600 * MB], 0),
        ([10 * MB, 39 * MB], 2),
    ],
)
def test_files_that_are_worth_merging(sizes, n_chosen):
    files = [live(str(i), size) for i, size in enumerate(sizes)]
    assert len(compaction.group_of(files)) == n_chosen


def test_a_new_shard_every_night_is_rewritten_a_few_times_only():
    files, rewritten = [], 0
    for night in range(1000):
        files.append(live(f"{night:04}", 2 * MB))
        while group := compaction.group_of(files):
            size = sum(file.n_bytes for file in group)
            rewritten += size
            files = [file for file in files if file not in group]
            files.append(live(f"m{night:04}-{len(files)}", size))
    assert sum(file.n_bytes for file in files) == 2000 * MB
    assert rewritten / (2000 * MB) < 12
    assert len(files) < 12


@pytest.mark.slow
def test_memory_of_a_merge_does_not_grow_with_the_rows(tmp_path):
    """Sixteen files of 128 Ki rows, then of four times as many."""
    code = """
import resource, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from lakeinterp.lake.activations import COLUMNS, ROW_GROUP, WRITER
from lakeinterp.lake.merge import merge
folder, n = sys.argv[1], int(sys.argv[2])
for i in range(16):
    latents = np.sort(np.random.default_rng(i).integers(0, 256, n)).astype(np.int32)
    table = pa.table([latents, np.arange(n) * 16 + i, np.ones(n, np.float32)], schema=COLUMNS)
    pq.write_table(table, f"{folder}/{n}-{i}", row_group_size=ROW_GROUP, **WRITER)
    del table, latents
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sources = [(str(i), open(f"{folder}/{n}-{i}", "rb")) for i in range(16)]
merge(sources, f"{folder}/m", largest_token=16 * n, largest_latent=256)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    grown = [
        int(
            subprocess.run(
                [sys.executable, "-c", code, str(tmp_path), str(n)],
                capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
            ).stdout
        )
        for n in (ROW_GROUP, 4 * ROW_GROUP)
    ]  # fmt: skip
    assert grown[1] < grown[0] + 60, grown


# -- vacuum -----------------------------------------------------------------------------------


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_vacuum_takes_old_dead_files_and_nothing_else(planted):
    lake = planted.lake
    folder = Path(lake.files("activations", "bucket = 0")[0]).parent
    for name in ("killed", "fresh"):
        (folder / f"{name}.parquet").write_bytes(b"PAR1")
    (folder / ".killed.parquet.12.partial").write_bytes(b"PAR1")
    (folder / ".fresh.parquet.12.partial").write_bytes(b"PAR1")
    (folder / "notes.txt").write_text("mine")
    for name in ("killed.parquet", ".killed.parquet.12.partial", "notes.txt"):
        age(folder / name, WEEK_S + 60)
    for file in lake.files("activations"):
        age(Path(file), 10 * WEEK_S)
    before = rows(lake)
    listed = upkeep.vacuum(lake, dry_run=True)
    assert [Path(f).name for f in listed.files] == [".killed.parquet.12.partial", "killed.parquet"]
    assert (folder / "killed.parquet").exists()
    assert upkeep.vacuum(lake) == listed
    left = {path.name for path in folder.iterdir()}
    assert left >= {"fresh.parquet", ".fresh.parquet.12.partial", "notes.txt"}
    assert not any("killed" in name for name in left)
    assert rows(lake) == before
    assert upkeep.vacuum(lake).files == []


def test_replaced_files_stay_for_a_week_however_old_they_are(planted):
    lake = planted.lake
    for file in lake.files("activations"):
        age(Path(file), 10 * WEEK_S)
    compaction.compact(lake)
    assert upkeep.vacuum(lake).files == []
    gone = upkeep.vacuum(lake, retention_hours=0)
    assert sum(file.startswith("activations/") for file in gone.files) == 18
    assert len(list(Path(lake.root, "activations").rglob("*.parquet"))) == 3
    assert len(rows(lake)) == np.count_nonzero(planted.dense)


def test_clock_that_goes_back_loses_no_row(planted):
    """Files and commits from a time to come: they are kept, and new ones go on."""
    lake, before = planted.lake, rows(planted.lake)
    for file in Path(lake.root).rglob("*.*"):
        age(file, -10 * WEEK_S)
    log = Path(lake.root, "activations", "_delta_log")
    last = max(log.glob("*.json"))
    entries = [json.loads(line) for line in last.read_text().splitlines()]
    entries[0]["commitInfo"]["timestamp"] += 10 * WEEK_S * 1000
    last.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    lake = Lake(lake.root)
    shard(lake, "later", [10**6])
    compaction.compact(lake)
    upkeep.vacuum(lake)
    assert rows(lake) == sorted([*before, (HOOKPOINT, 0, 0, 10**6, 1.0)])
    versions = [entry["version"] for entry in lake.create("activations").history()]
    assert versions == sorted(versions, reverse=True)


def test_negative_retention_is_refused(planted):
    with pytest.raises(ConfigError, match="retention-hours -1"):
        upkeep.vacuum(planted.lake, retention_hours=-1)


# -- forget -----------------------------------------------------------------------------------


def test_forgotten_capture_leaves_nothing_and_another_one_everything(planted):
    lake = planted.lake
    blank = dict.fromkeys(TABLES["captures"].columns)
    lake.upsert("captures", [{**blank, "capture": f"{CAPTURE}/2"}], scope={})
    shard(lake, "000000", [1, 2], capture=f"{CAPTURE}/2")
    n_sequences = len(lake.rows("sequences"))
    done = upkeep.forget(lake, CAPTURE)
    assert done.n_files["activations"] == 18
    assert [row["capture"] for row in lake.rows("captures")] == [f"{CAPTURE}/2"]
    assert lake.rows("hookpoints") == []
    assert [row[3] for row in rows(lake)] == [1, 2]
    assert len(lake.rows("sequences")) == n_sequences
    assert lake.committed("activations", f"capture/{CAPTURE}/2/000000") == 1
    with pytest.raises(NotFound, match=f"did you mean '{CAPTURE}/2'"):
        upkeep.forget(lake, CAPTURE)


def test_capture_of_the_same_name_starts_from_nothing(planted):
    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake.units import units
    from lakeinterp.sampling.statistics import statistics_unit

    sampling = SamplingConfig(window_tokens=16)
    first = [statistics_unit(planted.lake, u, sampling) for u in units(planted.lake, CAPTURE)]
    before, latents = rows(planted.lake), planted.lake.rows("latents")
    upkeep.forget(planted.lake, CAPTURE)
    upkeep.vacuum(planted.lake, retention_hours=0)
    again = planted_lake(planted.lake.root, n_sequences=60, n_shards=6).lake
    assert rows(again) == before
    second = [statistics_unit(again, u, sampling) for u in units(again, CAPTURE)]
    assert [u.is_new for u in first + second] == [True] * 6
    assert again.rows("latents") == latents


def test_forgetting_that_was_killed_is_completed(planted, monkeypatch):
    lake = planted.lake
    real = upkeep._forget_in

    def killed(lake: Lake, name: str, capture: str) -> int:
        if name == "hookpoints":
            raise KeyboardInterrupt
        return real(lake, name, capture)

    monkeypatch.setattr(upkeep, "_forget_in", killed)
    with pytest.raises(KeyboardInterrupt):
        upkeep.forget(lake, CAPTURE)
    monkeypatch.setattr(upkeep, "_forget_in", real)
    assert rows(lake) == []
    assert upkeep.captures(lake) == [CAPTURE]
    upkeep.forget(lake, CAPTURE)
    assert upkeep.captures(lake) == []
    assert lake.committed("activations", f"capture/{CAPTURE}/000000") == 0


def test_application_ids_are_found_in_checkpoints_too(planted):
    lake = planted.lake
    known = {f"capture/{CAPTURE}/{i:06d}" for i in range(6)}
    assert commits.app_ids(lake.store, "activations") == known
    lake.create("activations").create_checkpoint()
    shard(lake, "later", [10**6])
    for log in Path(lake.root, "activations", "_delta_log").glob("0000000000000000000[0-5].json"):
        log.unlink()
    assert commits.app_ids(lake.store, "activations") == {*known, f"capture/{CAPTURE}/later"}


@pytest.mark.parametrize(
    ("app", "capture", "expected"),
    [
        ("capture/a/000001", "a", True),
        ("capture/a/b/000001", "a", False),
        ("capture/a/b/000001", "a/b", True),
        ("capture/ab/000001", "a", False),
        ("capture/a.c/000001", "abc", False),
        ("latents/a/h/0", "a", True),
        ("examples/a/h/0/s", "a", True),
        ("latents/ab/h/0", "a", False),
        ("sequences/x/3", "a", False),
    ],
)
def test_application_ids_of_a_capture(app, capture, expected):
    assert upkeep.is_of(app, capture) is expected


# -- command line -----------------------------------------------------------------------------


def test_commands_say_what_they_did(planted, capsys):
    lake = ["--lake", planted.lake.root]
    n_rows = len(rows(planted.lake))
    assert cli.run(["compact", *lake]) == 0
    out = capsys.readouterr().out
    assert "compacted 22 files to 7 in" in out
    assert f"{n_rows:,} activations" in out
    assert cli.run(["compact", *lake]) == 0
    assert "as few as is worth the work" in capsys.readouterr().out
    assert cli.run(["vacuum", *lake]) == 0
    assert "no file is dead" in capsys.readouterr().out
    assert cli.run(["vacuum", *lake, "--retention-hours", "0", "--dry-run"]) == 0
    assert "would delete 18 files" in capsys.readouterr().out
    assert cli.run(["vacuum", *lake, "--retention-hours", "0"]) == 0
    assert "deleted 18 files" in capsys.readouterr().out


def test_forget_asks_for_yes_and_says_what_went(planted, capsys):
    lake = ["--lake", planted.lake.root]
    assert cli.run(["forget", CAPTURE, *lake]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert len(rows(planted.lake)) > 0
    assert cli.run(["forget", "plantd", *lake]) == 2
    assert "did you mean 'planted'" in capsys.readouterr().err
    assert cli.run(["forget", CAPTURE, "--yes", *lake]) == 0
    assert "forgot planted: activations, hookpoints, captures" in capsys.readouterr().out


def test_compact_of_hookpoints_needs_their_capture(planted, capsys):
    assert cli.run(["compact", "--lake", planted.lake.root, "--hookpoints", HOOKPOINT]) == 2
    assert "needs --capture" in capsys.readouterr().err
