"""Faults of machines: each ends in a correct lake, or in one clear line and then a correct lake."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from lakeinterp import cli
from lakeinterp.errors import DamagedFile, SchemaError, StorageError
from lakeinterp.lake import Lake, compaction, upkeep
from lakeinterp.lake.schema import TABLES
from lakeinterp.lake.units import captured_sequences
from tests import tiny
from tests.capture import children
from tests.planted import planted_lake

ALL_ROWS = "SELECT hookpoint, latent, token, value FROM activations ORDER BY ALL"
WEEK_MS = 7 * 24 * 3600 * 1000


class Truth:
    """Settings, and the rows and the time of an undisturbed run of them."""

    def __init__(self, folder: Path) -> None:
        self.settings = tiny.settings(folder) | {
            "capture.shard_tokens": 512, "capture.batch_sequences": 1, "capture.name": "c"
        }  # fmt: skip
        assert children.run("capture", self.settings, folder / "warm", folder / "said") == 0
        start = time.monotonic()
        assert children.run("capture", self.settings, folder / "whole", folder / "said") == 0
        self.seconds = time.monotonic() - start
        self.rows = rows(folder / "whole")
        self.sequences = Lake(str(folder / "whole")).rows("sequences")


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    return Truth(tmp_path_factory.mktemp("truth"))


@pytest.fixture
def disk(tmp_path):
    """A file system of 3 MB that can be made larger or read-only."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted by root only")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def rows(lake: Path):
    return Lake(str(lake)).sql(ALL_ROWS).fetchall()


def is_whole(truth: Truth, lake: Path) -> bool:
    """Whether the lake holds what an undisturbed run wrote."""
    return rows(lake) == truth.rows and Lake(str(lake)).rows("sequences") == truth.sequences


def one_line(said: Path) -> str:
    """Return the only line a failed command printed."""
    lines = said.read_text().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


# -- killed -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_and_run_again(truth, tmp_path, seed):
    """Three kills each; after every one the lake shows whole shards and nothing else."""
    moments, lake = random.Random(seed), tmp_path / "lake"
    for _ in range(3):
        process = children.start("capture", truth.settings, lake, tmp_path / "said")
        time.sleep(moments.uniform(0, truth.seconds))
        process.kill()
        process.join()
        found = rows(lake)
        if found:
            end = captured_sequences(Lake(str(lake)), "c") * tiny.P
            assert end % 512 == 0
            assert found == [row for row in truth.rows if row[2] < end]
    assert children.run("capture", truth.settings, lake, tmp_path / "said") == 0
    assert is_whole(truth, lake)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_one_of_two_workers_killed_costs_nothing(truth, tmp_path, seed):
    moments, lake = random.Random(100 + seed), tmp_path / "lake"
    workers = [
        children.start("capture", truth.settings, lake, tmp_path / f"said{i}") for i in range(2)
    ]
    time.sleep(moments.uniform(0, 2 * truth.seconds))
    workers[0].kill()
    workers[0].join()
    assert children.finish(workers[1]) == 0, (tmp_path / "said1").read_text()
    assert is_whole(truth, lake)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_compaction_killed_beside_a_running_capture_changes_no_row(truth, tmp_path, seed):
    moments, lake = random.Random(200 + seed), tmp_path / "lake"
    writer = children.start("capture", truth.settings, lake, tmp_path / "said")
    while writer.is_alive():
        time.sleep(moments.uniform(0, 0.3))
        if not (lake / "captures" / "_delta_log" / f"{1:020d}.json").exists():
            continue
        keeper = children.start("compact", {}, lake, tmp_path / "said-compact")
        time.sleep(moments.uniform(0, 0.8))
        keeper.kill()
        keeper.join()
    assert children.finish(writer) == 0, (tmp_path / "said").read_text()
    assert is_whole(truth, lake)
    assert children.run("compact", {}, lake, tmp_path / "said") == 0
    upkeep.vacuum(Lake(str(lake)), retention_hours=0)
    assert is_whole(truth, lake)
    assert not list(lake.rglob("*.partial"))


# -- the disk ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_full_disk_is_one_line_and_the_same_command_completes_the_lake(truth, tmp_path, disk):
    """Filled up to another point each time, so that another write fails first."""
    n_lines = 0
    for free in (0, 30, 80, 150, 250):
        fill = disk / "fill"
        fill.write_bytes(b"")
        left = os.statvfs(disk)
        spare = 2**20 + free * 1024
        fill.write_bytes(b"x" * max(0, left.f_bavail * left.f_frsize - spare))
        code = children.run("capture", truth.settings, disk / "lake", tmp_path / "said")
        if code:
            assert code == 2
            line = one_line(tmp_path / "said")
            assert "the disk is full; free space, then run the same command again" in line
            n_lines += 1
        fill.unlink()
    assert n_lines >= 2
    remount(disk, "size=64m")
    assert children.run("capture", truth.settings, disk / "lake", tmp_path / "said") == 0
    assert is_whole(truth, disk / "lake")


@pytest.mark.parametrize("largest_file", [500, 3000])
def test_limit_on_file_sizes_is_one_line(truth, tmp_path, largest_file):
    lake, said = tmp_path / "lake", tmp_path / "said"
    code = children.run("capture", truth.settings, lake, said, largest_file=largest_file)
    assert code == 2
    assert "a file may not grow that large here; raise the limit" in one_line(said)
    assert children.run("capture", truth.settings, lake, said) == 0
    assert is_whole(truth, lake)


def test_read_only_place_is_one_line_and_reading_goes_on(truth, tmp_path, disk, capsys):
    remount(disk, "size=64m")
    few = {**truth.settings, "capture.n_tokens": 1024}
    assert children.run("capture", few, disk / "lake", tmp_path / "said") == 0
    before = rows(disk / "lake")
    remount(disk, "ro")
    assert children.run("capture", truth.settings, disk / "lake", tmp_path / "said") == 2
    assert "the place is read-only; choose another with --lake" in one_line(tmp_path / "said")
    assert children.run("capture", truth.settings, disk / "other", tmp_path / "said") == 2
    assert "the place is read-only" in one_line(tmp_path / "said")
    assert rows(disk / "lake") == before
    for command in (["compact"], ["forget", "c", "--yes"]):
        assert cli.run([*command, "--lake", str(disk / "lake")]) == 2
        assert "the place is read-only" in capsys.readouterr().err
    remount(disk, "rw")
    assert children.run("capture", truth.settings, disk / "lake", tmp_path / "said") == 0
    assert is_whole(truth, disk / "lake")


def test_place_below_a_file_is_one_line(truth, tmp_path):
    (tmp_path / "file").write_text("mine")
    code = children.run("capture", truth.settings, tmp_path / "file" / "lake", tmp_path / "said")
    assert code == 2
    assert "a part of the path is a file, not a folder; choose another" in one_line(
        tmp_path / "said"
    )
    assert (tmp_path / "file").read_text() == "mine"


# -- files ------------------------------------------------------------------------------------


def test_torn_files_that_no_commit_names_are_written_over_or_ignored(truth, tmp_path):
    lake = tmp_path / "lake"
    few = {**truth.settings, "capture.n_tokens": 1024}
    assert children.run("capture", few, lake, tmp_path / "said") == 0
    files = [Path(file) for file in Lake(str(lake)).files("activations")]
    last = max(files, key=lambda file: file.stem)
    first, stop = (int(part) for part in last.stem.split("-")[:2])
    ahead = f"{stop:010d}-{2 * stop - first:010d}"
    torn = last.read_bytes()[:100]
    for file in files:
        for name in (last.stem.replace(last.stem[:21], ahead), "foreign"):
            file.with_name(f"{name}.parquet").write_bytes(torn)
        file.with_name(f".{ahead}.parquet.0.partial").write_bytes(torn)
    assert children.run("capture", truth.settings, lake, tmp_path / "said") == 0
    assert is_whole(truth, lake)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda file: file.write_bytes(file.read_bytes()[:150]), id="cut off"),
        pytest.param(lambda file: file.write_bytes(b""), id="empty"),
        pytest.param(lambda file: file.unlink(), id="gone"),
        pytest.param(
            lambda file: file.write_bytes(b"\0" * len(file.read_bytes())), id="zeroes"
        ),
    ],
)  # fmt: skip
def test_torn_file_that_a_commit_names_is_named_with_the_way_out(tmp_path, capsys, damage):
    lake = planted_lake(str(tmp_path / "lake")).lake
    victim = Path(lake.files("activations")[0])
    damage(victim)
    query = "SELECT latent, sum(value) FROM activations GROUP BY ALL"
    for command in (["sql", query], ["sample"], ["compact"]):
        assert cli.run([*command, "--lake", lake.root]) == 2, command
        shown = capsys.readouterr().err
        assert str(victim) in shown.replace("\n", ""), command
        assert "put it back from a copy, or run `lakeinterp forget`" in shown, command
        assert "Traceback" not in shown
    with pytest.raises(DamagedFile, match=victim.name):
        compaction.compact(lake)
    assert cli.run(["forget", "planted", "--yes", "--lake", lake.root]) == 0
    assert lake.sql("SELECT count(*) FROM activations").fetchall() == [(0,)]


def test_torn_small_table_is_named(tmp_path, capsys):
    lake = planted_lake(str(tmp_path / "lake"), n_sequences=4).lake
    victim = Path(lake.files("captures")[0])
    victim.write_bytes(victim.read_bytes()[:100])
    assert cli.run(["status", "--lake", lake.root]) == 2
    assert victim.name in capsys.readouterr().err
    with pytest.raises(DamagedFile, match=victim.name):
        lake.rows("captures")


def test_torn_log_is_one_line(tmp_path, capsys):
    lake = planted_lake(str(tmp_path / "lake"), n_sequences=4).lake
    log = Path(lake.root, "activations", "_delta_log", f"{1:020d}.json")
    log.write_bytes(log.read_bytes()[:80])
    assert cli.run(["sql", "SELECT 1 FROM activations", "--lake", lake.root]) == 2
    shown = capsys.readouterr().err
    assert "activations" in shown
    assert "Traceback" not in shown
    with pytest.raises((SchemaError, StorageError), match="activations"):
        Lake(lake.root).table("activations")


def test_foreign_files_and_folders_are_left_alone(truth, tmp_path):
    lake = tmp_path / "lake"
    for table in ("activations", "sequences", "captures"):
        (lake / table / "_delta_log").mkdir(parents=True)
        for name in ("notes.txt", "foreign.parquet", "_delta_log/notes.txt", "_delta_log/x.tmp"):
            (lake / table / name).write_text("mine")
        (lake / table / "bucket=x").mkdir()
    (lake / "my folder").mkdir()
    (lake / "my folder" / "a.parquet").write_text("mine")
    assert children.run("capture", truth.settings, lake, tmp_path / "said") == 0
    assert is_whole(truth, lake)
    compaction.compact(Lake(str(lake)))
    upkeep.vacuum(Lake(str(lake)))
    assert is_whole(truth, lake)
    left = [p for p in lake.rglob("*") if p.is_file() and p.read_bytes() == b"mine"]
    assert len(left) == 13


def test_folders_of_first_commits_that_were_never_made_are_no_tables(truth, tmp_path, capsys):
    """A kill or a full disk between making the folder and the first commit leaves these."""
    lake = tmp_path / "lake"
    for table in TABLES:
        (lake / table / "_delta_log").mkdir(parents=True)
    assert Lake(str(lake)).tables() == []
    assert cli.run(["status", "--lake", str(lake)]) == 2
    assert "lakeinterp capture" in capsys.readouterr().err
    assert children.run("capture", truth.settings, lake, tmp_path / "said") == 0
    assert is_whole(truth, lake)


# -- the clock --------------------------------------------------------------------------------


def test_clock_that_goes_back_between_two_runs_loses_nothing(truth, tmp_path):
    """The first half was written ten weeks from now, by a machine whose clock was wrong."""
    lake = tmp_path / "lake"
    half = {**truth.settings, "capture.n_tokens": 4096}
    assert children.run("capture", half, lake, tmp_path / "said") == 0
    for log in lake.rglob("_delta_log/*.json"):
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        for entry in entries:
            if "commitInfo" in entry:
                entry["commitInfo"]["timestamp"] += 10 * WEEK_MS
            if "add" in entry:
                entry["add"]["modificationTime"] += 10 * WEEK_MS
        log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    for file in lake.rglob("*"):
        os.utime(file, (time.time() + 10 * WEEK_MS / 1000,) * 2)
    assert children.run("capture", truth.settings, lake, tmp_path / "said") == 0
    assert is_whole(truth, lake)
    compaction.compact(Lake(str(lake)))
    upkeep.vacuum(Lake(str(lake)), retention_hours=0)
    assert is_whole(truth, lake)
