"""`report/stale` and `rescore/costs` against the same worked out row by row in Python."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp.lake import queries
from lakeinterp.lake.schema import TABLES
from tests.lakes import row

KEY = {"capture": "c", "hookpoint": "h"}
DAY = datetime(2026, 3, 1, tzinfo=UTC)
N_LATENTS, WIDTH = 6, 3
MADE, PROMPT = ["e0", "e1", "e2"], "p"
SCORERS = {"det": ("acc", True), "pat": ("acc", False)}
JUDGED = {"det": ["d0", "d1", "d2"], "pat": ["x0"]}
SAMPLES = {(b, f"s{b}{level}"): level for b in (0, 1) for level in range(4)}
EARLIER = {"old0": 0, "old1": 1}
TRANSIENT, FAILURES = ["timeout"], ["parse_failed", "many_failed"]
LEAST, N_SCORE, SHARE = 2, 10, 0.5
TABLES_READ = ("explanations", "scores", "judgements", "latents", "replies")


class Rows:
    """Random rows of one hookpoint."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.explanations, self.scores, self.judgements, self.replies = [], [], [], []
        self.wider = rng.choice([None, 0.2, 0.5])
        self.before = rng.choice([None, DAY + timedelta(days=2)])
        self.failures = rng.choice([[], FAILURES])
        self.latents = [
            row("latents", **KEY, latent=i, n_windows=rng.choice([5, 30, 90, 999]))
            for i in range(N_LATENTS) if rng.random() < 0.9
        ]  # fmt: skip
        for latent in range(N_LATENTS):
            for n in range(rng.choice([0, 1, 1, 1, 1, 2, 3])):
                self._explanation(latent, f"{latent}-{n}")
        for e in self.explanations:
            for other in rng.sample(range(N_LATENTS), 2):
                if other != e["latent"] and rng.random() < 0.5:
                    self._judgement(other, e["explanation"], "borrowed")

    def _explanation(self, latent, name):
        rng = self.rng
        self.explanations.append(
            row("explanations", **KEY, latent=latent, explanation=name,
                explainer=rng.choice(["me", "me", "me", "else"]),
                settings=rng.choice([*MADE * 4, "zz"]), prompt=rng.choice([*["p"] * 9, "q", None]),
                sample=rng.choice([*[s for b, s in SAMPLES if b == latent // WIDTH] * 4,
                                   *[s for _, s in SAMPLES], *EARLIER, "other"]),
                status=rng.choice([*["ok"] * 9, "no_rule", "timeout", "parse_failed"]),
                reply_keys=[f"k{rng.randrange(20)}" for _ in range(rng.randrange(3))],
                created_at=rng.choice([None, DAY, DAY + timedelta(days=rng.randrange(4))]))
        )  # fmt: skip
        for scorer, digests in JUDGED.items():
            for made in {rng.choice([*digests * 3, "yy"]) for _ in range(rng.choice([0, 1, 1, 2]))}:
                value = rng.choice([None, 0.5, 0.625, 0.75])
                wide = rng.choice([0.125, 0.25, 0.75])
                self.scores.append(
                    row("scores", **KEY, latent=latent, explanation=name, scorer=scorer,
                        settings=made, metric=rng.choice([*["acc"] * 6, "f1"]), value=value,
                        ci_low=None if value is None else 0.0,
                        ci_high=None if value is None else wide,
                        status=rng.choice(["ok", "ok", "many_failed", "timeout"]),
                        created_at=rng.choice([None, DAY, DAY + timedelta(days=rng.randrange(4))]))
                )  # fmt: skip
                for _ in range(rng.randrange(2)):
                    self._judgement(latent, name, "own", scorer, made)

    def _judgement(self, latent, explanation, role, scorer=None, made=None):
        scorer = scorer or self.rng.choice(list(JUDGED))
        self.judgements.append(
            row("judgements", **KEY, latent=latent, explanation=explanation, role=role,
                scorer=scorer, settings=made or self.rng.choice(JUDGED[scorer]),
                item=len(self.judgements), status=self.rng.choice(["ok", "ok", "timeout"]),
                reply_keys=[f"k{self.rng.randrange(20)}"])
        )  # fmt: skip

    def connect(self):
        con = duckdb.connect()
        con.execute("SET TimeZone = 'UTC'")
        for name in TABLES_READ:
            con.register(name, pa.Table.from_pylist(getattr(self, name), TABLES[name].schema))
        return con

    def values(self):
        judged = [(s, d, t) for s, ds in JUDGED.items() for t, d in enumerate(ds)]
        return {
            **KEY, "explainer": "me", "latents": list(range(N_LATENTS)), "bucket_latents": WIDTH,
            "buckets": [b for b, _ in SAMPLES], "samples": [s for _, s in SAMPLES],
            "levels": list(SAMPLES.values()), "earlier": list(EARLIER),
            "earlier_levels": list(EARLIER.values()), "explained_by": MADE, "prompt": PROMPT,
            "scorers": list(SCORERS), "headlines": [m for m, _ in SCORERS.values()],
            "asking": [a for _, a in SCORERS.values()], "judges": [s for s, _, _ in judged],
            "judged": [d for _, d, _ in judged], "turns": [t for *_, t in judged],
            "transient": TRANSIENT, "failures": self.failures, "before": self.before,
            "wider": self.wider, "least": LEAST, "n_score": N_SCORE, "score_share": SHARE,
        }  # fmt: skip


def newest(rows, last):
    """Return rows with the newest first; those without a time last, then by a column."""
    ordered = sorted(rows, key=lambda r: r[last])
    return sorted(
        ordered, key=lambda r: r["created_at"] or datetime(1, 1, 1, tzinfo=UTC), reverse=True
    )


def level_of(e):
    return SAMPLES.get((e["latent"] // WIDTH, e["sample"]))


def is_present(e):
    return e["settings"] in MADE and e["prompt"] == PROMPT and level_of(e) is not None


def state_of(rows, latent, scorer):
    """Return the standing explanation, its newest score by the scorer and the turn, or None."""
    mine = [e for e in rows.explanations if (e["latent"], e["explainer"]) == (latent, "me")]
    mine = sorted(newest(mine, "explanation"), key=lambda e: not is_present(e))
    e = mine[0] if mine else None
    metric, turns = SCORERS[scorer][0], {d: t for t, d in enumerate(JUDGED[scorer])}
    found = [
        s for s in rows.scores
        if e and (s["explanation"], s["scorer"], s["metric"]) == (e["explanation"], scorer, metric)
    ]  # fmt: skip
    found = sorted(newest(found, "settings"), key=lambda s: -turns.get(s["settings"], -1))
    s = found[0] if found else None
    return e, s, turns.get(s["settings"]) if s else None


def width_of(s):
    return None if s["value"] is None else s["ci_high"] - s["ci_low"]


def widening(rows):
    """Return the places whose sample is doubled, over all latents of a scorer and level."""
    found = set()
    windows = {r["latent"]: r["n_windows"] for r in rows.latents}
    for scorer in SCORERS:
        by_level = defaultdict(list)
        for latent in range(N_LATENTS):
            e, s, turn = state_of(rows, latent, scorer)
            if e is None or not is_present(e) or turn is None or s["value"] is None:
                continue
            level = level_of(e)
            if level < 3 and windows.get(latent, 0) * SHARE > N_SCORE * 2**level:
                by_level[level].append((-width_of(s), latent))
        for widths in by_level.values():
            if rows.wider is None or -min(widths)[0] <= rows.wider:
                continue
            for place, (minus, latent) in enumerate(sorted(widths)):
                if -minus > rows.wider or place < LEAST:
                    found.add((latent, scorer))
    return found


def plain(rows):
    """Yield (latent, scorer, reasons, level, explain turn, turn) of what is stale."""
    wide = widening(rows)
    of = {e["explanation"]: e for e in rows.explanations if e["explainer"] == "me"}
    for latent in range(N_LATENTS):
        for scorer, (_, asks) in SCORERS.items():
            e, s, turn = state_of(rows, latent, scorer)
            if e is None:
                yield latent, scorer, ["unexplained"], 0, 0, 0
                continue
            why, level, present = [], level_of(e), is_present(e)
            if e["prompt"] != PROMPT:
                why.append("prompt")
            elif e["settings"] not in MADE:
                why.append("settings")
            if level is None:
                why.append("tokens" if e["sample"] in EARLIER else "examples")
            failed_for_good = present and e["status"] in rows.failures
            passing = present and e["status"] in TRANSIENT
            bad_score = turn is not None and s["status"] in rows.failures
            tried = turn is not None and any(
                j["status"] in TRANSIENT
                and (j["latent"], j["scorer"], j["settings"]) == (latent, scorer, s["settings"])
                and j["explanation"] in of
                and level_of(of[j["explanation"]]) == level
                for j in rows.judgements
            )
            if present:
                if failed_for_good or passing or bad_score or tried:
                    why.append("failed")
                if not (failed_for_good or passing) and s is None:
                    why.append("unscored")
                if s is not None and turn is None:
                    why.append("judge")
                is_old = rows.before and turn is not None and s["created_at"]
                older = bool(is_old and s["created_at"] < rows.before) and asks
                if older and s["value"] is not None:
                    why.append("older")
                if (latent, scorer) in wide:
                    why.append("wider")
            if not why:
                continue
            reached = level if level is not None else EARLIER.get(e["sample"], 0)
            explain_turn = MADE.index(e["settings"]) + failed_for_good if present else 0
            anew = not present or failed_for_good or turn is None or "wider" in why
            again = 0 if anew else turn + (bad_score or "older" in why)
            yield latent, scorer, why, reached + ("wider" in why), explain_turn, again


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 2**32))
def test_what_is_stale_is_what_plain_python_says(seed):
    rows = Rows(seed)
    found = queries.load("report/stale").table(rows.connect(), **rows.values()).to_pylist()
    columns = ("latent", "scorer", "reasons", "level", "explain_turn", "turn")
    assert sorted(tuple(r[c] for c in columns) for r in found) == sorted(plain(rows))
    order = [(r["priority"], r["scored_at"] is not None, r["scored_at"] or DAY) for r in found]
    assert order == sorted(order)
    for r in found:
        why = set(r["reasons"])
        first = 0 if why & {"unexplained", "unscored", "failed"} else 1
        assert r["priority"] == (2 if why <= {"older", "wider"} else first)


@pytest.mark.parametrize("seed", range(3))
def test_past_costs_are_those_of_the_replies_behind_the_rows(seed):
    rows = Rows(seed)
    states = [("priced", 0.25), ("free", 0.0), ("unknown", None)]
    for i in range(18):
        state, usd = rows.rng.choice(states)
        usd = rows.rng.choice([None, 0.125]) if state == "unknown" else usd
        n = rows.rng.choice([None, 10])
        rows.replies.append(
            row("replies", key=f"k{i}", cost_state=state, cost_usd=usd, prompt_tokens=n,
                completion_tokens=5)
        )  # fmt: skip
    held = {r["key"]: r for r in rows.replies}
    of = {e["explanation"]: e for e in rows.explanations if e["explainer"] == "me"}
    used = {(None, e["latent"], name, k) for name, e in of.items() for k in e["reply_keys"]}
    used |= {
        (j["scorer"], j["latent"], j["settings"] + of[j["explanation"]]["sample"], k)
        for j in rows.judgements if j["explanation"] in of for k in j["reply_keys"]
    }  # fmt: skip
    expected = {}
    for scorer in {u[0] for u in used}:
        mine = [u for u in used if u[0] == scorer and u[3] in held]
        replies = [held[u[3]] for u in mine]
        known = [r for r in replies if r["prompt_tokens"] is not None]
        kinds = [sum(r["cost_state"] == s for r in replies) for s, _ in states]
        usd = sum(r["cost_usd"] or 0 for r in replies)
        n_pieces = len({u[1:3] for u in mine})
        expected[scorer] = (n_pieces, len(mine), 15 * len(known), len(known), *kinds, usd)
    table = queries.load("rescore/costs").table(
        rows.connect(), capture="c", explainer="me"
    ).to_pylist()  # fmt: skip
    found = {r.pop("scorer"): tuple(r.values()) for r in table}
    assert found == {s: n for s, n in expected.items() if n[1]}
