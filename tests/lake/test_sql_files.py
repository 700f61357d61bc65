"""Every file of `sql/`: the header is the statement's contract, and these tests compare the two."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import duckdb
import pytest

from lakeinterp.lake import Lake, queries
from tests.lakes import SAMPLE, scored_lake
from tests.planted import CAPTURE, CORPUS, HOOKPOINT

NAMES = queries.names()
MAKES = re.compile(r"CREATE OR REPLACE TEMP (?:TABLE|VIEW) (\w+)")
"""What a statement that makes a table begins with, after the header."""
MISSING = re.compile(r"Table with name (\w+) does not exist")
HANDED = {
    "cells": "SELECT i::INTEGER AS latent FROM range(12) AS a(i)",
    "windows": "SELECT i::INTEGER AS latent, j::INTEGER AS number, 1::FLOAT AS peak, "
    "(16 * j + 1)::BIGINT AS peak_token, j::INTEGER AS rank, 1::INTEGER AS quantile "
    "FROM range(12) AS a(i), range(2) AS b(j)",
    "pairs": "SELECT 0::INTEGER AS latent, 1::INTEGER AS neighbour, 1::BIGINT AS n",
    "near_tiles": "SELECT 0::INTEGER AS latent, 'score' AS role, 0::BIGINT AS place, "
    "0::BIGINT AS turn, 0::INTEGER AS number, 0::BIGINT AS token, 1::BIGINT AS population",
    "nearest_tiles": "SELECT 0::INTEGER AS latent, 'score' AS role, 0::BIGINT AS query, "
    "0::BIGINT AS number, 0.5::DOUBLE AS similarity",
    "counted": "SELECT 0::INTEGER AS latent, 3 AS n_activations, 1 AS n_windows, 1 AS n_documents, "
    "1 AS n_first, 0 AS n_special, 1::FLOAT AS max, 2::DOUBLE AS total, [1::FLOAT] AS quantiles",
    "listed": "SELECT 0::INTEGER AS latent, 'at' AS side, 1::INTEGER AS token_id, 3::BIGINT AS n",
    "bars": "SELECT 0::INTEGER AS latent, 1::INTEGER AS side, 0::INTEGER AS step, 3::BIGINT AS n",
    "placed": "SELECT 0::INTEGER AS latent, 0 AS part, 3 AS n",
    "parts": "SELECT 0 AS part, 1::DOUBLE AS share",
    "frequencies": "SELECT 1::INTEGER AS token_id, 9 AS n_at, 9 AS n_before, 9 AS n_after",
    "failed": "SELECT 0::INTEGER AS latent, 'e' AS explanation, 'timeout' AS status",
    "measured": "SELECT 0::INTEGER AS latent, 'e' AS explanation, 'own' AS role, 'tpr' AS metric, "
    "0.5::DOUBLE AS value, 0.4::DOUBLE AS ci_low, 0.6::DOUBLE AS ci_high, 9::BIGINT AS n, "
    "0::BIGINT AS n_failed, false AS lower_is_better, NULL::DOUBLE AS null_value, "
    "NULL::DOUBLE AS p_value",
    "shelf_numbers": "SELECT 0::INTEGER AS pair, 5::BIGINT AS place, 'ok' AS status, "
    "0.1::DOUBLE AS density, 1::FLOAT AS max, 3::BIGINT AS n_activations, 0.5::DOUBLE AS value, "
    "0.4::DOUBLE AS ci_low, 0.6::DOUBLE AS ci_high, 9::BIGINT AS n, 0::BIGINT AS n_failed, "
    "0.5::DOUBLE AS null_value, 0.1::DOUBLE AS corrected, 0.5::DOUBLE AS p_value, "
    "'ok' AS score_status",
    "shelf_texts": "SELECT 5::BIGINT AS place, [{'explainer': 'e', 'text': 't', 'status': 'ok', "
    "'reason': ''}] AS said, [{'token_id': 1::INTEGER, 'count': 3::BIGINT}] AS tokens, "
    "'t' AS haystack",
    "windows_shown": "SELECT 0::BIGINT AS item, 0::INTEGER AS latent, 0::BIGINT AS start, "
    "1::BIGINT AS length WHERE false",
}
"""Relations that Python registers beside the lake's own tables."""
DEFAULTS = {
    "VARCHAR": "x",
    "INTEGER": 1,
    "BIGINT": 1,
    "DOUBLE": 0.5,
    "FLOAT": 0.5,
    "BOOLEAN": True,
    "TIMESTAMP WITH TIME ZONE": datetime(2026, 1, 1, tzinfo=UTC),
}
PLANTED = {
    "capture": CAPTURE,
    "hookpoint": HOOKPOINT,
    "bucket": 0,
    "corpus": CORPUS,
    "sample": SAMPLE,
    "n_sequences": 200,
    "context_tokens": 64,
    "window_tokens": 16,
    "n_cells": 50,
    "latents": list(range(12)),
    "stop": 4,
    "n_explain": 6,
    "n_score": 7,
    "n_quantiles": 3,
    "turns": [0, 2, 1],
    "at": 12,
    "max_latents": 100,
    "among": None,
    "last": 10_000,
    "n_nearest": 3,
    "methods": ["cooccurrence"],
    "n_tokens": 12_800,
    "n_each": 2,
}
"""Values under which the statements meet the rows of a planted lake."""


def made_by(name):
    """Return the table that a statement makes, None for a plain SELECT."""
    found = MAKES.search(queries.load(name).sql)
    return found[1] if found else None


def maker_of(table):
    return next(name for name in NAMES if made_by(name) == table)


def value_for(kind):
    return [DEFAULTS[kind[:-2]]] if kind.endswith("[]") else DEFAULTS[kind]


def values_for(query, known=None):
    known = known or {}
    return {name: known.get(name, value_for(kind)) for name, kind in query.params.items()}


def prepare(con, name, known=None):
    """Make what a statement reads by running the statements that make it."""
    query = queries.load(name)
    for _ in range(20):
        try:
            return con.execute(f"EXPLAIN {query.sql}", values_for(query, known)).fetchall()
        except duckdb.CatalogException as exc:
            missing = MISSING.search(str(exc))
            if missing is None:
                raise
            if missing[1] in HANDED:
                con.execute(f"CREATE TEMP TABLE {missing[1]} AS {HANDED[missing[1]]}")
            else:
                maker = queries.load(maker_of(missing[1]))
                prepare(con, maker.name, known)
                maker.run(con, **values_for(maker, known))
    raise AssertionError(f"{name}: still lacks tables after 20 rounds")


@pytest.fixture(scope="module")
def con(tmp_path_factory):
    with Lake(str(tmp_path_factory.mktemp("empty"))).connect() as con:
        yield con


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    with scored_lake(str(tmp_path_factory.mktemp("scored"))).connect() as con:
        yield con


def test_there_are_queries_in_every_folder_that_sampling_needs():
    folders = {name.split("/")[0] for name in NAMES}
    assert {"audit", "macros", "sampling", "stats"} <= folders


@pytest.mark.parametrize("name", NAMES)
def test_a_file_holds_one_statement_that_uses_exactly_the_parameters_of_its_header(name):
    query = queries.load(name)
    (statement,) = duckdb.connect().extract_statements(query.sql)
    assert statement.named_parameters == set(query.params)


@pytest.mark.parametrize("name", NAMES)
def test_a_header_says_what_the_file_does_and_names_only_its_own_columns_as_grain(name):
    query = queries.load(name)
    assert len(query.about) > 20
    assert query.about.endswith((".", ":"))
    if not name.startswith("macros/"):
        assert query.columns
    assert set(query.grain) <= set(query.columns)


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("macros/")])
def test_the_result_has_the_columns_and_types_of_the_header(con, name):
    query = queries.load(name)
    prepare(con, name)
    if table := made_by(name):
        query.run(con, **values_for(query))
        found = con.execute(f"DESCRIBE {table}").fetchall()
    else:
        result = con.execute(query.sql, values_for(query))
        found = [(column[0], str(column[1])) for column in result.description]
        result.fetchall()
    types = {row[0]: re.sub(r'"', "", str(row[1])) for row in found}
    assert types == {c: re.sub(r'"', "", t) for c, t in query.columns.items()}


@pytest.mark.parametrize("name", [n for n in NAMES if queries.load(n).grain])
def test_no_two_rows_of_a_result_share_the_grain_of_the_header(planted, name):
    query = queries.load(name)
    prepare(planted, name, PLANTED)
    if table := made_by(name):
        query.run(planted, **values_for(query, PLANTED))
        rows = planted.sql(f"SELECT * FROM {table}").to_arrow_table()
    else:
        rows = query.table(planted, **values_for(query, PLANTED))
    keys = [tuple(row.values()) for row in rows.select(list(query.grain)).to_pylist()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("macros/")])
def test_a_macro_is_named_after_its_file(name):
    macro = re.search(r"MACRO (\w+)", queries.load(name).sql)
    assert macro is not None
    assert macro[1] == name.split("/")[-1]


@pytest.mark.parametrize("name", NAMES)
def test_no_result_is_a_bare_star_and_no_line_is_too_long(name):
    text = queries.load(name).sql
    last = text[text.rindex("SELECT") :] if "SELECT" in text else ""
    assert not re.match(r"SELECT\s+\*", last)
    assert max(map(len, text.splitlines())) <= 120
