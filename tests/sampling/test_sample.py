"""Sampling a whole lake: what is written, written again, extended, refused and audited."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakeinterp.config import Config, SamplingConfig
from lakeinterp.errors import AuditFailed, LakeError, NotFound
from lakeinterp.lake import queries
from lakeinterp.lake.schema import TABLES
from lakeinterp.lake.tables import where
from lakeinterp.lake.units import sample_id
from lakeinterp.sampling import (
    Shortfall,
    audit_unit,
    examples_unit,
    open_session,
    sample,
    sample_unit,
    statistics_unit,
)
from lakeinterp.sampling.audit import offending
from lakeinterp.sampling.examples import draw
from lakeinterp.sampling.session import shown_as, unit_key
from lakeinterp.terms import Unit
from tests.planted import CAPTURE, HOOKPOINT, planted_lake

SAMPLING = SamplingConfig(
    window_tokens=16,
    n_explain=12,
    n_explain_negatives=9,
    n_score=13,
    n_random=11,
    n_quantiles=5,
)
CONFIG = Config(sampling=SAMPLING)
UNITS = [Unit(capture=CAPTURE, hookpoint=HOOKPOINT, bucket=b) for b in range(3)]
AUDITS = queries.names("audit")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    planted = planted_lake(str(tmp_path_factory.mktemp("sampled")), n_sequences=120, seed=1)
    sample(planted.lake, CONFIG)
    return planted


def rows_of(lake, settings=SAMPLING):
    rows = lake.rows("examples", where(sample=sample_id(lake, CAPTURE, settings)))
    return sorted(rows, key=lambda r: (r["latent"], r["example"]))


def test_every_latent_gets_exactly_what_was_asked_for_and_a_row(tmp_path):
    lake = planted_lake(str(tmp_path)).lake
    calls = []
    units = sample(lake, CONFIG, progress=lambda *call: calls.append(call))
    assert [u.unit for u in units] == UNITS
    assert sum(u.n_latents for u in units) == 12
    assert [(u.n_dead, u.n_dense) for u in units] == [(1, 1), (0, 0), (0, 0)]
    assert all(u.shortfalls == () and u.n_examples == 45 * u.n_drawn for u in units)
    assert sum(u.n_drawn for u in units) == 11
    assert calls[-1] == ("examples", UNITS[-1], 3, 3)
    steps = [(step, done) for step, _, done, _ in calls]
    assert steps == sorted(steps, key=lambda call: (call[0] == "examples", call[1]))
    assert [done for step, done in steps if step == "examples"] == [1, 2, 3]
    assert [done for step, done in steps if step == "statistics"][-1] == 3
    assert {r["latent"] for r in rows_of(lake)} == {0, 1, *range(3, 12)}


def test_what_the_corpus_lacks_is_a_stated_shortfall(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=40).lake
    greedy = SAMPLING.model_copy(update={"n_score": 100_000})
    units = sample(lake, Config(sampling=greedy))
    for unit in units:
        (shortfall,) = unit.shortfalls
        assert isinstance(shortfall, Shortfall)
        assert (shortfall.role, shortfall.stratum) == ("score", "activating")
        assert shortfall.n_latents == unit.n_drawn
        n = unit.n_examples - unit.n_drawn * (12 + 9 + 11)
        assert shortfall.n_missing == unit.n_drawn * 100_000 - n


def test_a_second_run_writes_nothing_and_a_run_from_scratch_writes_equal_rows(tmp_path):
    first = planted_lake(str(tmp_path / "a"), n_sequences=60).lake
    second = planted_lake(str(tmp_path / "b"), n_sequences=60, n_shards=1).lake
    sample(first, CONFIG)
    sample_unit(second, UNITS[0], SAMPLING)
    versions = {name: first.version(name) for name in ("latents", "examples")}
    assert not any(unit.is_new for unit in sample(first, CONFIG))
    assert versions == {name: first.version(name) for name in ("latents", "examples")}
    sample(second, CONFIG)
    assert rows_of(first) == rows_of(second)
    assert first.rows("latents") == second.rows("latents")


def test_lost_rows_are_drawn_again_as_they_were(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=60).lake
    sample(lake, CONFIG)
    before = rows_of(lake)
    empty = TABLES["examples"].schema.empty_table()
    lake.replace("examples", empty, where=where(**unit_key(UNITS[1])))
    assert rows_of(lake) != before
    assert [unit.is_new for unit in sample(lake, CONFIG)] == [False, True, False]
    assert rows_of(lake) == before


def test_other_settings_are_another_sample_beside_the_first(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=60).lake
    sample(lake, CONFIG)
    before = rows_of(lake)
    other = SAMPLING.model_copy(update={"seed": 23})
    sample(lake, Config(sampling=other))
    assert rows_of(lake) == before
    starts = [[r["start"] for r in rows_of(lake, s)] for s in (SAMPLING, other)]
    assert starts[0] != starts[1]


def test_latents_chosen_later_leave_those_drawn_before_as_they_were(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=60).lake
    few = SAMPLING.model_copy(update={"max_latents": 4})
    units = sample(lake, Config(sampling=few))
    assert sum(u.n_selected for u in units) == 4
    before = rows_of(lake)
    chosen = {r["latent"] for r in before}
    units = sample(lake, CONFIG)
    after = rows_of(lake)
    assert len({r["latent"] for r in after}) == 11 > len(chosen) == 4
    assert [r for r in after if r["latent"] in chosen] == before
    assert sum(u.n_examples for u in units) == len(after)
    assert not any(unit.is_new for unit in sample(lake, Config(sampling=few)))


def test_listed_latents_alone_are_drawn(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=60).lake
    listed = SAMPLING.model_copy(update={"latents": (2, 7)})
    sample(lake, Config(sampling=listed))
    assert {r["latent"] for r in rows_of(lake)} == {7}


def test_examples_without_statistics_are_refused(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=20).lake
    with pytest.raises(LakeError, match="lacks statistics of its latents; run statistics_unit"):
        examples_unit(lake, UNITS[0], SAMPLING)
    statistics_unit(lake, UNITS[0], SAMPLING)
    few = SAMPLING.model_copy(update={"max_latents": 2})
    with pytest.raises(LakeError, match="every unit of the hookpoint"):
        examples_unit(lake, UNITS[0], few)


def test_an_unknown_hookpoint_is_named(sampled):
    with pytest.raises(NotFound, match=r"layers\.0"):
        sample(sampled.lake, CONFIG, hookpoints=["layers.9"])


def draws_over(lake, n_sequences):
    """Return roles by document and draws by (latent, role, stratum), over a shorter corpus."""
    with open_session(lake, CAPTURE, SAMPLING) as session:
        session.n_sequences = n_sequences
        session.run(
            "sampling/tiles",
            n_sequences=n_sequences,
            window_tokens=16,
            seed=SAMPLING.seed,
            explain_share=SAMPLING.explain_share,
            **session.text,
        )
        session.run("sampling/lookup", n_sequences=n_sequences, **session.text)
        roles = dict(session.con.execute("SELECT document, role FROM tiles").fetchall())
        rows = [r for u in UNITS for r in draw(session, u, list(range(12))).to_pylist()]
    found = {}
    for r in rows:
        found.setdefault((r["latent"], r["role"], r["stratum"]), set()).add(r["start"])
    return roles, found


def test_more_tokens_change_no_role_and_keep_most_draws(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=200).lake
    roles, draws = draws_over(lake, 180)
    longer_roles, longer_draws = draws_over(lake, 200)
    assert roles.items() <= longer_roles.items()
    assert len(longer_roles) > len(roles)
    assert max(s for starts in draws.values() for s in starts) < 180 * 64
    for stratum, least in (("activating", 0.6), ("random", 0.75)):
        mine = {key: starts for key, starts in draws.items() if key[2] == stratum}
        n = sum(map(len, mine.values()))
        assert sum(len(starts & longer_draws[key]) for key, starts in mine.items()) > least * n


def test_all_audits_pass_on_what_was_drawn(sampled):
    for unit in UNITS:
        assert audit_unit(sampled.lake, unit, SAMPLING) == len(AUDITS)


def first(rows, **wanted):
    return next(r for r in rows if all(r[k] == v for k, v in wanted.items()))


def swap_roles(rows):
    row = first(rows, role="explain", stratum="random")
    other = first(rows, role="score", stratum="random")
    other["document"] = row["document"]


def quiet_value(rows):
    row = first(rows, stratum="activating")
    at = next(i for i, v in enumerate(row["values"]) if v)
    row["values"] = [0.0 if i == at else v for i, v in enumerate(row["values"])]


def wrong_peak(rows):
    first(rows, stratum="activating")["peak"] += 1


def active_negative(rows):
    row = first(rows, stratum="activating")
    other = first(rows, stratum="random", latent=row["latent"])
    n = len(other["values"])
    other |= {"start": row["start"], "tokens": row["tokens"], "values": [0.0] * n}


def loud_negative(rows):
    row = first(rows, stratum="random")
    row["values"] = [1.0, *row["values"][1:]]


def other_tokens(rows):
    rows[0]["tokens"] = [t + 1 for t in rows[0]["tokens"]]


def outside(rows):
    rows[0]["start"] += 14


def past_the_corpus(rows):
    rows[0]["start"] += 10**6


def wrong_role(rows):
    rows[0]["role"] = "score"


def swapped_quantiles(rows):
    row = first(rows, stratum="activating", quantile=1)
    other = first(rows, stratum="activating", quantile=5, latent=row["latent"])
    row["quantile"], other["quantile"] = 5, 1


def one_too_many(rows):
    row = first(rows, stratum="activating", role="score", latent=0)
    n = 1 + max(r["example"] for r in rows if r["latent"] == 0)
    rows.append(row | {"example": n})


def gap(rows):
    rows.remove(first(rows, latent=0, example=3))


def twice(rows):
    row = first(rows, latent=0, example=4)
    other = first(rows, latent=0, example=5)
    other["start"] = row["start"]


def fewer_windows(rows):
    row = first(rows, latent=0, quantile=1)
    for r in rows:
        if (r["latent"], r["role"], r["quantile"]) == (0, row["role"], 1):
            r["population"] -= 1


def more_silence(rows):
    for r in rows:
        if (r["latent"], r["role"], r["stratum"]) == (0, "score", "random"):
            r["population"] += 1


def uneven(rows):
    first(rows, latent=0, stratum="random")["population"] -= 1


def light(rows):
    first(rows, latent=0, stratum="random")["weight"] *= 0.5


FAULTS = [
    ("weights", light),
    ("split_overlap", swap_roles),
    ("values", quiet_value),
    ("values", wrong_peak),
    ("negatives", active_negative),
    ("negatives", loud_negative),
    ("spans", other_tokens),
    ("spans", outside),
    ("spans", past_the_corpus),
    ("spans", wrong_role),
    ("quantile_order", swapped_quantiles),
    ("counts", one_too_many),
    ("counts", gap),
    ("duplicates", twice),
    ("populations", fewer_windows),
    ("populations", more_silence),
    ("populations", uneven),
]


@pytest.mark.parametrize(("name", "plant"), FAULTS, ids=lambda v: getattr(v, "__name__", v))
def test_an_audit_finds_the_fault_it_is_for(sampled, name, plant):
    rows = [r for r in rows_of(sampled.lake) if r["bucket"] == 0]
    with open_session(sampled.lake, CAPTURE, SAMPLING) as session:
        plant(rows)
        faulty = pa.Table.from_pylist(rows, schema=TABLES["examples"].schema)
        with shown_as(session, "examples", faulty):
            assert offending(session, UNITS[0], f"audit/{name}").num_rows
        assert not offending(session, UNITS[0], f"audit/{name}").num_rows


def test_there_is_a_planted_fault_for_every_audit():
    assert {f"audit/{name}" for name, _ in FAULTS} == set(AUDITS)


def test_rows_that_went_wrong_in_the_lake_are_named_with_their_audit(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=60).lake
    sample(lake, CONFIG)
    rows = [r for r in rows_of(lake) if r["bucket"] == 0]
    wrong_peak(rows)
    lake.replace("examples", rows, where=where(**unit_key(UNITS[0])))
    with pytest.raises(AuditFailed, match=r"audit/values: planted/layers\.0/0: 1 rows .* example"):
        audit_unit(lake, UNITS[0], SAMPLING)
