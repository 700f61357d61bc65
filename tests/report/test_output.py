from __future__ import annotations

import json
import math
from io import StringIO

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from lakeinterp.errors import ConfigError, NotFound, QueryError
from lakeinterp.report import output, write_result

TYPES = r"""
SELECT 7 AS i, sum(x) AS big, 1.25::DECIMAL(10, 2) AS dec, [1, NULL] AS l,
    {'a': 1, 'b': 'x "y"'} AS s, [{'a': NULL}] AS ls, MAP {'k': 1.5} AS m, '\xAA\x00'::BLOB AS b,
    TIMESTAMPTZ '2026-01-02 03:04:05+00' AS ts, TIMESTAMP_NS '2026-01-02 03:04:05.123456789' AS ns,
    DATE '2026-01-02' AS d, TIME '10:00' AS t, INTERVAL 3 DAY AS iv, '101'::BIT AS bit, NULL AS nil,
    NULL::VARCHAR AS nt, '' AS empty, 'nan'::DOUBLE AS nan, '-inf'::FLOAT AS inf, true AS yes,
    'a'::ENUM('a', 'b') AS e, union_value(num := 2) AS u, 'two
lines, ‮ and "quotes"' AS txt
FROM range(4) AS t(x)
"""
ODD = "SELECT x AS n, CASE WHEN x % 2 = 1 THEN 'odd' END AS kind FROM range(40000) AS t(x)"


def write(lake, query, tmp_path, format):
    path = tmp_path / f"out.{format}"
    n = write_result(lake.sql(query), format=format, output=path, console=Console())
    return n, path


def table(lake, query, width=80):
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    n = write_result(lake.sql(query), format="table", output=None, console=console)
    return n, out.getvalue()


def test_json_says_every_type_and_no_nan(lake, tmp_path):
    n, path = write(lake, TYPES, tmp_path, "json")

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    (row,) = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert n == 1
    assert row == {
        "i": 7, "big": 6, "dec": 1.25, "l": [1, None], "s": {"a": 1, "b": 'x "y"'},
        "ls": [{"a": None}], "m": {"k": 1.5}, "b": "aa00", "ts": "2026-01-02T03:04:05+00:00",
        "ns": "2026-01-02 03:04:05.123456789", "d": "2026-01-02", "t": "10:00:00",
        "iv": "3 days", "bit": "101", "nil": None, "nt": None, "empty": "", "nan": None,
        "inf": None, "yes": True, "e": "a", "u": "2", "txt": 'two\nlines, ‮ and "quotes"',
    }  # fmt: skip


def test_csv_tells_null_from_empty_and_nests_as_json(lake, tmp_path):
    _, path = write(lake, TYPES, tmp_path, "csv")
    read = pacsv.read_csv(
        path,
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    (row,) = read.to_pylist()
    assert (row["nt"], row["empty"]) == (None, "")
    assert json.loads(row["s"]) == {"a": 1, "b": 'x "y"'}
    assert json.loads(row["l"]) == [1, None]
    assert (row["b"], row["iv"], str(row["bit"]), row["e"]) == ("aa00", "3 days", "101", "a")
    assert row["txt"] == 'two\nlines, ‮ and "quotes"'
    assert ",nan," in path.read_text(encoding="utf-8")


def test_parquet_keeps_types_and_values(lake, tmp_path):
    _, path = write(lake, TYPES, tmp_path, "parquet")
    (row,) = pq.read_table(path).drop_columns(["ns"]).to_pylist()
    assert row["s"] == {"a": 1, "b": 'x "y"'}
    assert row["l"] == [1, None]
    assert row["b"] == b"\xaa\x00"
    assert row["inf"] == -math.inf
    assert row["ts"].isoformat() == "2026-01-02T03:04:05+00:00"


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_many_batches_round_trip_in_order(lake, tmp_path, format):
    n, path = write(lake, ODD, tmp_path, format)
    read = {
        "csv": lambda: pacsv.read_csv(
            path, convert_options=pacsv.ConvertOptions(strings_can_be_null=True)
        ).to_pylist(),
        "json": lambda: json.loads(path.read_text(encoding="utf-8")),
        "parquet": lambda: pq.read_table(path).to_pylist(),
    }[format]()
    assert n == 40_000
    assert read == [{"n": x, "kind": "odd" if x % 2 else None} for x in range(40_000)]


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_an_empty_result_is_a_valid_file(lake, tmp_path, format):
    n, path = write(lake, "SELECT 1 AS a WHERE false", tmp_path, format)
    text = path.read_bytes()
    assert n == 0
    assert {"csv": text == b'"a"\n', "json": text == b"[]\n", "parquet": text[:4] == b"PAR1"}[
        format
    ]


def test_json_goes_to_standard_output(lake, capfdbinary):
    write_result(lake.sql("SELECT 1 AS a"), format="json", output=None, console=Console())
    assert capfdbinary.readouterr().out == b'[\n{"a": 1}\n]\n'


def test_parquet_without_a_file_is_refused(lake):
    with pytest.raises(ConfigError, match="add --output FILE"):
        write_result(lake.sql("SELECT 1"), format="parquet", output=None, console=Console())


def test_an_unknown_format_names_the_known_ones(lake):
    with pytest.raises(NotFound, match="known: csv, json, parquet, table"):
        write_result(lake.sql("SELECT 1"), format="xml", output=None, console=Console())


@pytest.mark.parametrize("format", ["json", "parquet"])
def test_two_columns_of_one_name_are_refused(lake, tmp_path, format):
    with pytest.raises(ConfigError, match="two columns are called 'a'; name them with AS"):
        write(lake, "SELECT 1 AS a, 2 AS a", tmp_path, format)
    assert list(tmp_path.iterdir()) == []


def test_a_query_that_fails_on_the_way_leaves_no_file(lake, tmp_path):
    query = "SELECT CASE WHEN x = 39999 THEN error('late') ELSE x END AS n FROM range(40000) t(x)"
    with pytest.raises(QueryError, match="late"):
        write(lake, query, tmp_path, "csv")
    assert list(tmp_path.iterdir()) == []


def test_a_table_shows_fifty_rows_and_counts_the_rest(lake):
    n, text = table(lake, "SELECT x AS number FROM range(60) t(x)")
    assert n == 60
    assert len([line for line in text.splitlines() if line.strip().isdigit()]) == output.SHOWN_ROWS
    assert "… 10 more rows" in text


def test_a_table_of_a_huge_result_does_not_wait_for_its_end(lake):
    n, text = table(lake, "SELECT x FROM range(10000000000) t(x)")
    assert n < 200_000
    assert "rows or more" in text


def test_a_table_keeps_numbers_whole_and_cuts_long_texts(lake):
    long = "repeat('abc ', 60)"
    _, text = table(lake, f"SELECT 1234567 AS n, {long} AS a, {long} AS b, 89 AS m")
    assert max(map(len, text.splitlines())) <= 80
    assert "1234567" in text
    assert "89" in text
    assert "…" in text


def test_numbers_inside_a_value_of_a_table_are_as_short_as_those_beside_it(lake):
    _, text = table(lake, "SELECT 0.1::FLOAT AS a, [{'x': 0.1::FLOAT, 'y': 'nan'::FLOAT}] AS b")
    assert '[{"x": 0.1, "y": null}]' in text


def test_a_table_with_many_columns_becomes_records(lake):
    _, text = table(lake, "SELECT " + ", ".join(f"{i} AS column_{i}" for i in range(12)))
    assert "row 1" in text
    assert all(f"column_{i} " in text for i in range(12))


def test_a_table_shows_corpus_text_without_control_characters(lake):
    _, text = table(lake, "SELECT text FROM vocabulary ORDER BY token_id")
    assert "\x1b" not in text
    assert "⟨001B⟩" in text


def test_a_result_without_rows_says_so(lake):
    assert "no rows" in table(lake, "SELECT 1 AS a WHERE false")[1]
