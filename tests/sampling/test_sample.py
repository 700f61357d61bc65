"""Sampling a whole lake: what is written, written again, extended, refused and audited."""

from __future__ import annotations

from pathlib import Path

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
from lakeinterp.sampling import audit as audits
from lakeinterp.sampling.examples import _publish, draw
from lakeinterp.sampling.session import unit_key
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


def test_one_unit_of_a_hookpoint_is_put_to_every_audit_however_sound_it_looks(
    tmp_path, monkeypatch
):
    asked, found = [], audits.offending

    def told(session, unit, name):
        asked.append((unit.bucket, name))
        return found(session, unit, name)

    monkeypatch.setattr(audits, "offending", told)
    sample(planted_lake(str(tmp_path)).lake, CONFIG)
    assert sorted(name for _, name in asked) == sorted(AUDITS)
    assert len({bucket for bucket, _ in asked}) == 1


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


def test_examples_that_another_writer_committed_first_are_kept_and_added_to(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=60).lake
    for unit in UNITS:
        statistics_unit(lake, unit, SAMPLING)
    mine, other = (SAMPLING.model_copy(update={"latents": (i,)}) for i in (0, 3))
    with open_session(lake, CAPTURE, mine) as late:
        rows = draw(late, UNITS[0], [0])
        assert examples_unit(lake, UNITS[0], other).n_drawn == 1
        held = set(Path(tmp_path, "examples").rglob("*.parquet"))
        assert not _publish(late, UNITS[0], rows, [0])
        assert not _publish(late, UNITS[0], draw(late, UNITS[0], [3]), [3])
        assert set(Path(tmp_path, "examples").rglob("*.parquet")) == held
        assert {r["latent"] for r in rows_of(lake)} == {3}
        assert examples_unit(lake, UNITS[0], mine, session=late).is_new
    assert {r["latent"] for r in rows_of(lake)} == {0, 3}


def test_a_unit_without_windows_enough_is_done_once(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=60).lake
    none = SAMPLING.model_copy(update={"min_windows": 10**6})
    assert [u.is_new for u in sample(lake, Config(sampling=none))] == [True] * 3
    assert [u.is_new for u in sample(lake, Config(sampling=none))] == [False] * 3
    assert rows_of(lake, none) == []


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


def test_rows_that_went_wrong_in_the_lake_are_named_with_their_audit(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=60).lake
    sample(lake, CONFIG)
    rows = [r for r in rows_of(lake) if r["bucket"] == 0]
    next(r for r in rows if r["stratum"] == "activating")["peak"] += 1
    lake.replace("examples", rows, where=where(**unit_key(UNITS[0])))
    with pytest.raises(AuditFailed, match=r"audit/values: planted/layers\.0/0: 1 rows .* example"):
        audit_unit(lake, UNITS[0], SAMPLING)
