"""Random rows of every table that reports read, and what of them stands."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime

import numpy as np

from tests.lakes import row

CAPTURE, HOOKPOINTS, EXPLAINERS, SCORERS = "c", ("h0", "h1"), ("a", "b"), ("x", "y")
TRANSIENT = ["timeout"]
N_LATENTS, WIDTH = 6, 3
TIMES = [None, *(datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3))]
KEYS = [f"k{i}" for i in range(12)]


class Rows:
    """Random rows of every table that reports read."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)

        def pick(values):
            return values[int(rng.integers(len(values)))]

        def share(p):
            return bool(rng.random() < p)

        self.captures, self.hookpoints, self.sequences = [], [], []
        self.latents, self.examples, self.explanations = [], [], []
        self.scores, self.judgements = [], []
        for i in range(int(rng.integers(4))):
            self.sequences.append(row("sequences", corpus="text", sequence=i))
        for capture in (CAPTURE, "other"):
            config = {"capture": {"n_tokens": 99}} if share(0.5) else {"n_tokens": 7}
            found = {"corpus": pick(["text", "none"]), "config": json.dumps(config)}
            self.captures.append(
                row("captures", capture=capture, created_at=pick(TIMES), model="m", **found)
            )
            for hookpoint in HOOKPOINTS:
                key = {"capture": capture, "hookpoint": hookpoint}
                self.hookpoints.append(
                    row("hookpoints", **key, n_latents=N_LATENTS, bucket_latents=WIDTH, d_in=4)
                )
                for latent in range(N_LATENTS):
                    self._latent({**key, "latent": latent}, pick, share)
        self.replies = [
            row(
                "replies", key=key, status=pick(["ok", "timeout"]), model_requested="asked",
                cost_state=pick(["priced", "free", "unknown"]), cost_usd=pick([None, 0.25, 1.5]),
                model_served=pick([None, "served"]), text=pick([None, "said " * 99]),
                created_at=pick(TIMES), reason=pick([None, "why"]), route="judge",
                prompt_tokens=pick([None, 10]), completion_tokens=pick([3, 4]),
            )
            for key in KEYS if share(0.8)
        ]  # fmt: skip

    def _latent(self, key, pick, share):
        if share(0.8):
            status = pick(["ok", "ok", "rare", "dead"])
            self.latents.append(
                row("latents", **key, status=status, density=pick([0.0, 0.5, 0.25, 2**-9]),
                    n_tokens=pick([100, 200]), n_windows=pick([3, 4]))
            )  # fmt: skip
        n_examples = 0
        for sample in ("s1", "s2"):
            for stratum, quantile in (("activating", 1), ("activating", 2), ("random", None)):
                for role in ("explain", "score"):
                    for _ in range(pick([0, 0, 1, 3])):
                        self.examples.append(
                            row("examples", **key, bucket=key["latent"] // WIDTH, sample=sample,
                                example=n_examples, role=role, stratum=stratum,
                                quantile=quantile, peak=pick([0.5, 1.0, 2.0]))
                        )  # fmt: skip
                        n_examples += 1
        for explainer in EXPLAINERS:
            for i in range(pick([0, 1, 1, 2])):
                name = f"{key['hookpoint']}-{key['latent']}-{explainer}-{i}"
                self._explanation({**key, "explanation": name}, explainer, pick, share)

    def _explanation(self, key, explainer, pick, share):
        status = pick(["ok", "ok", "no_rule", "timeout"])
        self.explanations.append(
            row("explanations", **key, explainer=explainer, sample=pick(["s1", "s2", None]),
                text=pick(["t", "u", ""]) if status == "ok" else None, status=status,
                settings=pick(["u1", "u2"]), reason=pick([None, "why"]), created_at=pick(TIMES),
                reply_keys=sorted({pick(KEYS), pick(KEYS)}))
        )  # fmt: skip
        for scorer in SCORERS:
            for made in ("t1", "t2"):
                for metric in ("m", "k"):
                    if share(0.5):
                        value = pick([None, 0.0, 0.25, 0.5, 0.8125, 1.0])
                        self.scores.append(
                            row("scores", **key, scorer=scorer, settings=made, metric=metric,
                                value=value, ci_low=None if value is None else value / 2,
                                null_value=pick([None, 0.25, 0.5]), n=pick([4, 8]),
                                n_failed=pick([0, 1]), corrected=pick([None, 0.5]),
                                status="timeout" if value is None else "ok",
                                created_at=pick(TIMES))
                        )  # fmt: skip
                for item in range(pick([0, 0, 2, 4])):
                    status = pick(["ok", "ok", "timeout", "stopped_early"])
                    self.judgements.append(
                        row("judgements", **key, scorer=scorer, settings=made, item=item,
                            role=pick(["own", "own", "borrowed"]), example=pick([0, 1, None]),
                            status=status, truth=share(0.5),
                            prediction=share(0.5) if status == "ok" else None,
                            reply_keys=[pick(KEYS)])
                    )  # fmt: skip

    # -- what stands --------------------------------------------------------------------------

    def of(self, table, capture=CAPTURE):
        return [r for r in getattr(self, table) if r["capture"] == capture]

    def newest_explanations(self):
        by = ("hookpoint", "latent", "explainer")
        return first_of(self.of("explanations"), by, "explanation")

    def newest_scores(self, metric=None):
        standing = {e["explanation"]: e["explainer"] for e in self.newest_explanations()}
        mine = [s for s in self.of("scores") if s["explanation"] in standing]
        return [
            {**s, "explainer": standing[s["explanation"]]}
            for s in of_last_settings(mine)
            if metric in (None, s["metric"])
        ]


def of_last_settings(scores):
    """Return the scores of each explanation and scorer that have the newest one's settings."""
    newest = first_of(scores, ("explanation", "scorer"), "settings")
    standing = {(s["explanation"], s["scorer"], s["settings"]) for s in newest}
    return [s for s in scores if (s["explanation"], s["scorer"], s["settings"]) in standing]


def first_of(rows, by, last):
    """Return the newest row of each group, those without a time last, then by a column."""
    found = {}
    ordered = sorted(rows, key=lambda r: r[last])
    ordered.sort(key=lambda r: r["created_at"] or datetime(1, 1, 1, tzinfo=UTC), reverse=True)
    for r in ordered:
        found.setdefault(tuple(r[c] for c in by), r)
    return list(found.values())


def grouped(rows, *by):
    found = defaultdict(list)
    for r in rows:
        found[tuple(r[c] for c in by)].append(r)
    return found.items()


def place(r):
    return r["hookpoint"], r["latent"]
