"""Audits: they find every fault that they are for, and nothing in what is drawn."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import NamedTuple

import pyarrow as pa
import pytest

from lakeinterp.config import SamplingConfig
from lakeinterp.lake import queries
from lakeinterp.lake.schema import TABLES
from lakeinterp.sampling import neighbours, open_session
from lakeinterp.sampling.audit import offending
from lakeinterp.sampling.examples import draw
from lakeinterp.sampling.session import shown_as
from lakeinterp.sampling.statistics import statistics_unit
from lakeinterp.terms import Unit
from tests.planted import CAPTURE, HOOKPOINT, planted_lake

AUDITS = queries.names("audit")
UNIT = Unit(capture=CAPTURE, hookpoint=HOOKPOINT, bucket=0)


def config_for(explain, score, **more):
    settings = {
        "window_tokens": 16,
        "n_explain": 12,
        "n_explain_negatives": 9,
        "n_score": 13,
        "n_random": 11,
        "n_quantiles": 5,
    }
    return SamplingConfig(explain_draw=explain, score_draw=score, **{**settings, **more})


HARD = {"n_same_token": 5, "n_neighbour": 5, "n_explain_same_token": 3, "n_explain_neighbour": 4}
CONFIGS = {
    "quantiles": config_for("quantiles", "quantiles", **HARD),
    "chosen": config_for("top", "mix", **HARD, placement="aligned"),
    "weighed": config_for("importance", "random", **HARD, peak_at=0.0),
    "few": config_for("quantiles", "mix", n_explain=3, n_score=4, n_random=0),
    "all": config_for("mix", "top", n_explain=10_000, n_score=10_000, n_random=10_000),
    "narrow": config_for("top", "importance", window_tokens=3, peak_at=1.0, explain_share=0.9),
}


class Drawn(NamedTuple):
    rows: dict
    """The examples of a unit, by the name of the configuration."""
    sessions: dict
    """Open ones that see the statistics made with it."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    lake = planted_lake(str(tmp_path_factory.mktemp("audited")), n_sequences=90, seed=1).lake
    neighbours.cooccurrence(lake, CAPTURE, HOOKPOINT, CONFIGS["quantiles"])
    with ExitStack() as stack:
        found = Drawn({}, {})
        for name, config in CONFIGS.items():
            statistics_unit(lake, UNIT, config)
            session = stack.enter_context(open_session(lake, CAPTURE, config))
            found.sessions[name] = session
            found.rows[name] = draw(session, UNIT, range(4)).to_pylist()
        yield found


def found_by(drawn, name, audits, plant=None):
    """Return what audits find in rows, after a fault was planted."""
    session, rows = drawn.sessions[name], [dict(row) for row in drawn.rows[name]]
    if plant:
        plant(rows)
    table = pa.Table.from_pylist(rows, schema=TABLES["examples"].schema)
    with shown_as(session, "examples", table):
        return {audit: offending(session, UNIT, audit).to_pylist() for audit in audits}


@pytest.mark.parametrize("name", CONFIGS)
def test_all_audits_pass_on_what_is_drawn(drawn, name):
    assert drawn.rows[name]
    assert not any(found_by(drawn, name, AUDITS).values())


def test_what_is_audited_has_every_draw_and_stratum(drawn):
    strata = {row["stratum"] for rows in drawn.rows.values() for row in rows}
    assert strata == {"activating", "random", "same_token", "neighbour"}
    draws = {d for c in CONFIGS.values() for d in (c.explain_draw, c.score_draw)}
    assert len(draws) == 5


# -- faults -----------------------------------------------------------------------------------


def first(rows, **wanted):
    return next(r for r in rows if all(r[k] == v for k, v in wanted.items()))


def setting(column, value, **wanted):
    """Return a fault: the first row that is as wanted has another value in one column."""

    def plant(rows):
        row = first(rows, **wanted)
        row[column] = value(row[column]) if callable(value) else value

    return plant


def every(column, value, **wanted):
    """Return a fault in all rows that are as wanted."""

    def plant(rows):
        mine = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
        assert mine
        for row in mine:
            row[column] = value(row[column]) if callable(value) else value

    return plant


def swap_roles(rows):
    row, other = (first(rows, role=role, stratum="random") for role in ("explain", "score"))
    other["document"] = row["document"]


def quiet_value(rows):
    row = next(r for r in rows if sum(map(bool, r["values"])) > 1)
    at = next(i for i, v in enumerate(row["values"]) if v and i != row["peak_offset"])
    row["values"] = [0.0 if i == at else v for i, v in enumerate(row["values"])]


def loud_value(rows):
    row = first(rows, stratum="activating")
    at = next(i for i, v in enumerate(row["values"]) if not v)
    row["values"] = [1.0 if i == at else v for i, v in enumerate(row["values"])]


def active_negative(rows):
    row = first(rows, stratum="activating")
    other = first(rows, stratum="random", latent=row["latent"])
    n = len(row["values"])
    other |= {"start": row["start"], "tokens": row["tokens"], "values": [0.0] * n}


def past_the_end(rows):
    next(r for r in rows if r["start"] % 64 == 64 - len(r["tokens"]))["start"] += 1


def longer(rows):
    row = next(r for r in rows if r["start"] % 64 == 1)
    row["tokens"], row["values"] = row["tokens"] + [1], row["values"] + [0.0]


def shorter(rows):
    row = first(rows, stratum="random")
    row["tokens"], row["values"] = row["tokens"][:-1], row["values"][:-1]


def swapped_quantiles(rows):
    row = first(rows, stratum="activating", quantile=1)
    other = first(rows, stratum="activating", quantile=5, latent=row["latent"])
    row["quantile"], other["quantile"] = 5, 1


def one_too_many(rows):
    row = first(rows, stratum="activating", role="score", latent=0)
    rows.append(row | {"example": 1 + max(r["example"] for r in rows if r["latent"] == 0)})


def unasked(rows):
    row = first(rows, stratum="random", role="score", latent=0)
    n = 1 + max(r["example"] for r in rows if r["latent"] == 0)
    rows.append(row | {"example": n, "stratum": "similar"})


def gap(rows):
    rows.remove(first(rows, latent=0, example=3))


def twice(rows):
    row, other = (first(rows, latent=0, example=i) for i in (4, 5))
    other["start"] = row["start"]


def first_quantile(rows):
    row = first(rows, latent=0, quantile=1)
    every("population", lambda n: n - 1, latent=0, quantile=1, role=row["role"])(rows)


SILENT = {"stratum": "random"}
ACTIVE = {"stratum": "activating"}
SCORED = {"latent": 0, "role": "score", "stratum": "random"}
FAULTS = [
    ("split_overlap", "quantiles", swap_roles, None),
    ("values", "quantiles", quiet_value, "shows other values"),
    ("values", "quantiles", loud_value, "shows other values"),
    ("values", "quantiles", active_negative, "shows other values"),
    ("values", "quantiles", setting("values", lambda v: v[:-1], **SILENT), "one value a token"),
    ("values", "quantiles", setting("values", None, **SILENT), "one value a token"),
    ("values", "quantiles", setting("peak", lambda p: p + 1, **ACTIVE), "a peak that is not"),
    ("values", "quantiles", setting("peak_offset", None, **ACTIVE), "a peak that is not"),
    ("negatives", "quantiles", setting("values", lambda v: [1.0, *v[1:]], **SILENT), "activation"),
    ("negatives", "quantiles", setting("values", lambda v: [-1.0, *v[1:]], **SILENT), "activation"),
    ("negatives", "quantiles", setting("peak", None, **SILENT), "a peak or a quantile"),
    ("negatives", "quantiles", setting("peak_offset", 3, **SILENT), "a peak or a quantile"),
    ("negatives", "quantiles", setting("quantile", 3, stratum="same_token"), "or a quantile"),
    ("negatives", "quantiles", setting("neighbour", None, stratum="neighbour"), "no neighbour"),
    ("spans", "quantiles", setting("start", 0), "begins at a token of no captured document"),
    ("spans", "quantiles", setting("start", 10**7), "begins at a token of no captured document"),
    ("spans", "quantiles", setting("document", lambda d: d ^ 1), "lies in another document"),
    ("spans", "quantiles", setting("document", None), "lies in another document"),
    ("spans", "quantiles", setting("role", None), "has another role"),
    ("spans", "quantiles", past_the_end, "leaves the document"),
    ("spans", "quantiles", setting("tokens", None), "has no tokens"),
    ("spans", "narrow", longer, "is longer than a window"),
    ("spans", "quantiles", shorter, "is shorter than its document allows"),
    ("spans", "chosen", shorter, "is no tile"),
    ("spans", "quantiles", setting("role", "score", role="explain"), "has another role"),
    ("spans", "quantiles", setting("tokens", lambda t: [i + 1 for i in t]), "holds other tokens"),
    ("quantile_order", "quantiles", swapped_quantiles, None),
    ("quantile_order", "quantiles", setting("quantile", None, **ACTIVE), None),
    ("counts", "quantiles", one_too_many, "too many: score activating"),
    ("counts", "quantiles", unasked, "too many: score similar"),
    ("counts", "quantiles", gap, "are not numbered"),
    ("counts", "quantiles", setting("example", 0, latent=0, example=1), "are not numbered"),
    ("duplicates", "quantiles", twice, None),
    ("populations", "quantiles", first_quantile, "windows of the latent"),
    (
        "populations",
        "quantiles",
        every("population", lambda n: n + 1, **SCORED),
        "tiles of the rol",
    ),
    ("populations", "quantiles", every("population", lambda n: n + 1, **SCORED), "silent tiles"),
    ("populations", "quantiles", setting("population", lambda n: n - 1, **SCORED), "fewer windows"),
    ("populations", "quantiles", setting("population", None, **SCORED), "fewer windows"),
    ("populations", "quantiles", setting("population", None, **ACTIVE), "fewer windows"),
    ("populations", "quantiles", every("population", 2, **SCORED), "fewer windows than examples"),
    ("weights", "quantiles", every("weight", 1.0, stratum="same_token"), "without a chance"),
    ("weights", "chosen", every("weight", 1.0, role="explain", **ACTIVE), "without a chance"),
    ("weights", "weighed", setting("weight", None, **ACTIVE), "lack weights"),
    ("weights", "weighed", every("weight", None, role="score", **ACTIVE), "lack weights"),
    ("weights", "quantiles", every("weight", None, latent=0, **ACTIVE), "lack weights"),
    ("weights", "quantiles", every("weight", None, **SCORED), "lack weights"),
    ("weights", "chosen", setting("weight", 99.0, role="score", **ACTIVE), "do not add up"),
    ("weights", "quantiles", setting("weight", 0.5, **SILENT), "do not add up"),
    ("weights", "quantiles", setting("weight", 99.0, **ACTIVE), "do not add up in quantile 1"),
    ("weights", "weighed", setting("weight", 0.5, role="explain", **ACTIVE), "weights below 1"),
]


@pytest.mark.parametrize(
    ("name", "config", "plant", "said"), FAULTS, ids=[f"{f[0]}-{i}" for i, f in enumerate(FAULTS)]
)
def test_an_audit_finds_the_fault_it_is_for(drawn, name, config, plant, said):
    rows = found_by(drawn, config, [f"audit/{name}"], plant)[f"audit/{name}"]
    assert rows
    assert said is None or any(re.search(said, row["problem"]) for row in rows)


def test_there_is_a_planted_fault_for_every_problem_that_an_audit_can_name():
    assert {f"audit/{name}" for name, *_ in FAULTS} == set(AUDITS)
    for audit in AUDITS:
        code = re.sub("--.*", "", queries.load(audit).sql)
        named = [text.strip(" :") for text in re.findall("'([^']*)'", code) if " " in text.strip()]
        said = [s for name, _, _, s in FAULTS if f"audit/{name}" == audit and s]
        assert [p for p in named if not any(s in p or p in s for s in said)] == []
        assert named or audit in ("audit/split_overlap", "audit/quantile_order", "audit/duplicates")
