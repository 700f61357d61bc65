"""The one pass over arrays that rows go through before they are written is never too mild."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp.errors import AuditFailed
from lakeinterp.lake.schema import TABLES
from lakeinterp.sampling.audit import audit
from lakeinterp.sampling.checks import COVERED, is_sound
from tests.sampling.test_audits import AUDITS, CONFIGS, FAULTS, UNIT, drawn, found_by

_ = drawn  # The fixture: the examples of a unit under every configuration.
SCHEMA = TABLES["examples"].schema


def is_fine(session, rows):
    return is_sound(session, UNIT, pa.Table.from_pylist(rows, schema=SCHEMA))


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_drawn_passes_and_needs_no_statement(drawn, name):
    assert is_fine(drawn.sessions[name], drawn.rows[name])
    assert set(AUDITS) == COVERED


@pytest.mark.parametrize(
    ("config", "plant"), [f[1:3] for f in FAULTS], ids=[f"{f[0]}-{i}" for i, f in enumerate(FAULTS)]
)
def test_no_planted_fault_passes(drawn, config, plant):
    rows = [dict(row) for row in drawn.rows[config]]
    plant(rows)
    assert not is_fine(drawn.sessions[config], rows)


def test_a_fault_is_named_by_the_statement_that_is_for_it(drawn):
    rows = [dict(row) for row in drawn.rows["quantiles"]]
    rows[0]["peak"] += 1
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    with pytest.raises(AuditFailed, match=r"audit/values: .* 1 rows that must not exist"):
        audit(drawn.sessions["quantiles"], UNIT, table)


NUMBERS = {
    "example": st.integers(-1, 40),
    "start": st.integers(-1, 300),
    "document": st.integers(0, 9),
    "peak": st.sampled_from([0.0, 1.0, math.nan, -1.0]),
    "population": st.integers(-1, 60),
    "weight": st.sampled_from([0.0, 1.0, 7.5, math.nan, math.inf]),
    "quantile": st.integers(-1, 12),
    "peak_offset": st.integers(-2, 40),
    "neighbour": st.integers(-1, 3),
    "latent": st.integers(-1, 12),
    "role": st.sampled_from(["explain", "score", "other"]),
    "stratum": st.sampled_from(["activating", "random", "same_token", "neighbour", "other"]),
    "values": st.lists(st.sampled_from([0.0, 1.0, None]), max_size=17),
    "tokens": st.lists(st.one_of(st.none(), st.integers(0, 90)), max_size=17),
}
CHANGE = st.sampled_from(sorted(NUMBERS)).flatmap(
    lambda name: st.tuples(st.just(name), st.one_of(st.none(), NUMBERS[name]))
)


@given(name=st.sampled_from(sorted(CONFIGS)), at=st.integers(0, 10**6), change=CHANGE)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_rows_that_pass_break_no_rule_whatever_was_changed(drawn, name, at, change):
    rows = [dict(row) for row in drawn.rows[name]]
    column, value = change
    rows[at % len(rows)][column] = value
    if is_fine(drawn.sessions[name], rows):
        found = found_by(drawn, name, AUDITS, lambda mine: mine.__setitem__(slice(None), rows))
        assert not any(found.values())
