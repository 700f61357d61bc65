"""The lake: commits once, upserts by key, refuses what it would misread."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lakeinterp
from lakeinterp.errors import ConfigError, NotFound, QueryError, SchemaError
from lakeinterp.lake import Lake
from lakeinterp.lake.activations import bucket_latents, write_activations
from lakeinterp.lake.schema import TABLES
from tests.planted import CAPTURE, HOOKPOINT, planted_lake


def hookpoint(name: str, capture: str = "c", l0: float = 1.0) -> dict[str, object]:
    return {
        **dict.fromkeys(TABLES["hookpoints"].columns),
        "capture": capture,
        "hookpoint": name,
        "l0": l0,
    }


def one_file(lake: Lake, name: str = "a", latents=(1, 1, 3)):
    return write_activations(
        lake.store,
        capture="c",
        hookpoint="h",
        latents_per_bucket=2,
        latents=np.array(latents, np.int32),
        tokens=np.arange(len(latents), dtype=np.int64),
        values=np.ones(len(latents), np.float32),
        name=name,
    )


def test_empty_lake_has_every_view_with_its_columns(tmp_path):
    with Lake(str(tmp_path)).connect() as con:
        for name, table in TABLES.items():
            assert con.execute(f"SELECT * FROM {name}").fetchall() == []
            assert [c[0] for c in con.description] == table.columns


def described(lake: Lake, name: str) -> list[tuple[str, str]]:
    with lake.connect() as con:
        return [row[:2] for row in con.execute(f"DESCRIBE SELECT * FROM {name}").fetchall()]


def test_views_have_the_same_types_with_and_without_rows(tmp_path):
    full = planted_lake(str(tmp_path / "full"), n_sequences=4).lake
    empty = Lake(str(tmp_path / "empty"))
    assert len(full.tables()) == 5
    for name in full.tables():
        assert described(full, name) == described(empty, name)
        assert full.scan(name).collect_schema().names() == TABLES[name].columns
        assert empty.scan(name).collect().shape == (0, len(TABLES[name].columns))


def test_rows_come_back_as_they_were_written(tmp_path):
    planted = planted_lake(str(tmp_path))
    found = planted.lake.sql("SELECT latent, token, value FROM activations").fetchnumpy()
    dense = np.zeros_like(planted.dense)
    dense[found["token"], found["latent"]] = found["value"]
    assert np.array_equal(dense, planted.dense)
    assert len(found["token"]) == np.count_nonzero(planted.dense)


def test_files_have_the_encodings_the_design_promises(tmp_path):
    lake = planted_lake(str(tmp_path)).lake
    meta = pq.ParquetFile(lake.files("activations")[0]).metadata.row_group(0)
    encodings = {meta.column(i).path_in_schema: meta.column(i).encodings for i in range(3)}
    assert "DELTA_BINARY_PACKED" in encodings["token"]
    assert "BYTE_STREAM_SPLIT" in encodings["value"]
    assert "RLE_DICTIONARY" in encodings["latent"]
    assert {meta.column(i).compression for i in range(3)} == {"ZSTD"}
    assert [c.column_index for c in meta.sorting_columns] == [0, 1]


def test_commit_is_made_once(tmp_path):
    lake = Lake(str(tmp_path))
    files = one_file(lake)
    assert lake.publish("activations", files, app="capture/c/0", version=5)
    assert not lake.publish("activations", files, app="capture/c/0", version=5)
    assert lake.committed("activations", "capture/c/0") == 5
    assert lake.sql("SELECT count(*) FROM activations").fetchall() == [(3,)]


def test_commit_that_continues_another_one_needs_the_version_before(tmp_path):
    lake = Lake(str(tmp_path))
    assert lake.publish("activations", one_file(lake), app="x", version=5)
    assert not lake.publish("activations", one_file(lake, "b"), app="x", version=9, after=3)
    assert lake.publish("activations", one_file(lake, "b"), app="x", version=9, after=5)


def test_file_without_a_commit_does_not_exist_for_readers(tmp_path):
    lake = Lake(str(tmp_path))
    lake.publish("activations", one_file(lake), app="x", version=1)
    one_file(lake, "orphan")
    assert lake.sql("SELECT count(*) FROM activations").fetchall() == [(3,)]


def test_failed_write_leaves_nothing(tmp_path):
    lake = Lake(str(tmp_path))
    with pytest.raises(SchemaError, match="sorted by latent"):
        one_file(lake, latents=(3, 1))
    with pytest.raises(SchemaError, match="expected columns"):
        lake.store.write_parquet(
            "activations",
            pa.table({"latent": [1]}),
            schema=TABLES["activations"].schema,
            partition={"capture": "c", "hookpoint": "h", "bucket": 0},
            name="a",
        )
    assert not list(tmp_path.rglob("*.parquet*"))


def test_upsert_replaces_by_key_and_keeps_the_rest(tmp_path):
    lake = Lake(str(tmp_path))
    lake.upsert("hookpoints", [hookpoint("a"), hookpoint("b")], scope={"capture": "c"})
    lake.upsert("hookpoints", [hookpoint("b", l0=2.0), hookpoint("x")], scope={"capture": "c"})
    lake.upsert("hookpoints", [hookpoint("a", capture="d", l0=9.0)], scope={"capture": "d"})
    rows = lake.sql("SELECT capture, hookpoint, l0 FROM hookpoints ORDER BY ALL").fetchall()
    assert rows == [("c", "a", 1.0), ("c", "b", 2.0), ("c", "x", 1.0), ("d", "a", 9.0)]


def test_upsert_of_unknown_columns_is_refused(tmp_path):
    with pytest.raises(SchemaError, match="'widht'"):
        Lake(str(tmp_path)).upsert("hookpoints", [{**hookpoint("a"), "widht": 3}], scope={})


def _upsert_some(root: str, first: int) -> None:
    lake = Lake(root)
    for i in range(first, first + 6):
        lake.upsert("hookpoints", [hookpoint(f"h{i}")], scope={"capture": "c"})


def test_two_processes_on_the_same_rows_write_them_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_upsert_some, args=(str(tmp_path), first)) for first in (0, 3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    found = Lake(str(tmp_path)).sql("SELECT hookpoint FROM hookpoints ORDER BY 1").fetchall()
    assert found == [(f"h{i}",) for i in range(9)]


@pytest.mark.parametrize(
    "query",
    [
        "COPY activations TO 'x.csv'",
        "CREATE TABLE x AS SELECT 1",
        "DROP VIEW activations",
        "INSTALL httpfs",
        "ATTACH 'x.db'",
        "SET threads = 1",
        "SELECT 1; SELECT 2",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "SELECT nothing FROM nowhere",
    ],
)
def test_sql_that_is_no_reading_of_the_lake_is_refused(tmp_path, query):
    lake = planted_lake(str(tmp_path), n_sequences=4).lake
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(QueryError):
        lake.sql(query).fetchall()
    assert sorted(tmp_path.rglob("*")) == before


def test_newer_table_is_refused_with_the_way_out(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=4).lake
    log = Path(lake.root, "captures", "_delta_log", f"{0:020d}.json")
    stamped = '"lakeinterp.version":"'
    log.write_text(log.read_text().replace(stamped, stamped + "9"))
    with pytest.raises(SchemaError, match="table version 92, this lakeinterp reads 2"):
        lake.table("captures")


def test_opening_an_empty_folder_says_what_makes_a_lake(tmp_path):
    with pytest.raises(NotFound, match="lakeinterp capture"):
        lakeinterp.open(str(tmp_path))


def test_capture_is_found_by_name_or_by_being_the_only_one(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=4).lake
    assert lake.capture()["capture"] == CAPTURE
    with pytest.raises(NotFound, match="did you mean 'planted'"):
        lake.capture("plantd")


def test_file_list_is_pruned_by_partition_and_latent(tmp_path):
    lake = planted_lake(str(tmp_path)).lake
    everything = lake.files("activations")
    some = lake.files("activations", f"hookpoint = '{HOOKPOINT}' AND bucket = 1")
    assert 0 < len(some) < len(everything)
    assert all("bucket=1" in file for file in some)
    assert lake.files("activations", "latent = 99") == []


@pytest.mark.parametrize(
    ("n_latents", "n_buckets", "expected"),
    [(1, None, 1), (255, None, 255), (2048, None, 256), (16384, None, 256), (131072, None, 2048),
     (10, 3, 4), (3, 64, 1)],
)  # fmt: skip
def test_bucket_width(n_latents, n_buckets, expected):
    assert bucket_latents(n_latents, n_buckets) == expected


def test_text_of_tokens_keeps_split_characters_whole(tmp_path):
    from lakeinterp.lake import Vocabulary

    vocabulary = Vocabulary("t", (b"caf", "é".encode()[:1], "é".encode()[1:], b" x"))
    assert vocabulary.pieces([0, 1, 2, 3]) == ("caf", "", "é", " x")
    assert vocabulary.text([0, 1]) == "caf\N{REPLACEMENT CHARACTER}"
    assert vocabulary.text([9]) == "<token 9>"


def test_macros_give_the_text_of_tokens_and_around_a_token(tmp_path):
    planted = planted_lake(str(tmp_path), n_sequences=6)
    lake, context = planted.lake, planted.tokens.shape[1]
    vocabulary = lake.vocabulary("words")
    texts = lake.sql("SELECT text_of(tokens) FROM sequences ORDER BY sequence").fetchall()
    assert texts == [(vocabulary.text(row),) for row in planted.tokens]
    found = lake.sql("SELECT DISTINCT token, around(token, 3) FROM activations").fetchall()
    assert len(found) > 50
    for token, text in found:
        row, place = planted.tokens[token // context], token % context
        assert text == vocabulary.text(row[max(0, place - 3) : place + 4])
    named = "SELECT text_of([3], tokenizer := 'words'), text_of([3], tokenizer := 'none')"
    assert lake.sql(named).fetchall() == [(" cat", None)]


def score_rows(latents, value):
    place = {"capture": "c", "hookpoint": "h", "scorer": "s", "settings": "x", "metric": "m"}
    blank = dict.fromkeys(TABLES["scores"].columns)
    return [
        {**blank, **place, "latent": i, "explanation": f"e{i}", "value": value} for i in latents
    ]


def test_an_upsert_with_a_span_reads_only_the_files_that_reach_into_it(tmp_path):
    lake, place = Lake(str(tmp_path)), {"capture": "c", "hookpoint": "h"}
    lake.upsert("scores", score_rows(range(50), 1.0), scope=place, spans=("latent",))
    (untouched,) = lake.files("scores")
    whole = Path(untouched).read_bytes()
    Path(untouched).write_bytes(b"unreadable")
    lake.upsert("scores", score_rows(range(50, 90), 1.0), scope=place, spans=("latent",))
    lake.upsert("scores", score_rows(range(80, 95), 2.0), scope=place, spans=("latent",))
    Path(untouched).write_bytes(whole)
    lake.upsert("scores", score_rows(range(45, 55), 3.0), scope=place, spans=("latent",))
    values = {row["latent"]: row["value"] for row in lake.rows("scores")}
    expected = dict.fromkeys(range(80), 1.0) | dict.fromkeys(range(80, 95), 2.0)
    assert values == expected | dict.fromkeys(range(45, 55), 3.0)


def test_an_upsert_that_was_overtaken_writes_nothing(tmp_path):
    lake = Lake(str(tmp_path))
    assert lake.upsert("scores", score_rows([1], 1.0), scope={}, app="a") == 1
    assert lake.upsert("scores", score_rows([1], 2.0), scope={}, app="a") == 0
    assert lake.upsert("scores", score_rows([1], 3.0), scope={}, app="a", after=1) == 1
    assert [row["value"] for row in lake.rows("scores")] == [3.0]


def test_lake_may_lie_below_spaces_and_letters_of_any_alphabet(tmp_path):
    planted = planted_lake(str(tmp_path / "my läke"), n_sequences=6)
    count = planted.lake.sql("SELECT count(*) FROM activations").fetchall()
    assert count == [(np.count_nonzero(planted.dense),)]
    with pytest.raises(ConfigError, match="as an escape; rename it"):
        Lake(str(tmp_path / "a%20b"))


def test_a_statement_looks_at_the_tables_that_it_names_and_no_others(tmp_path):
    planted = planted_lake(str(tmp_path), n_sequences=4)
    log = Path(planted.lake.root) / "activations" / "_delta_log"
    log.rename(log.with_name("broken"))
    log.write_text("no log")
    lake = Lake(planted.lake.root)
    assert lake.sql("SELECT count(*) FROM captures").fetchall() == [(1,)]
    assert ("activations",) in lake.sql("SHOW TABLES").fetchall()


@pytest.mark.parametrize(
    "query",
    [
        'WITH a AS (SELECT * FROM Main."ACTIVATIONS") SELECT count(*) > 0 FROM a, captures',
        "SELECT (SELECT count(*) FROM activations) > 0",
        "SELECT count(*) > 0 FROM query('FROM activations')",
        "SELECT count(*) > 0 FROM query_table('activations')",
    ],
)
def test_a_table_may_be_named_in_any_way(tmp_path, query):
    assert planted_lake(str(tmp_path), n_sequences=4).lake.sql(query).fetchall() == [(True,)]
