"""Drift of latents: the statement against plain Python, the plot, the command."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import pytest

from lakeinterp import cli
from lakeinterp.lake import queries
from lakeinterp.lake.schema import TABLES
from lakeinterp.report.drift import drift, plot
from tests.lakes import row
from tests.rescore.growing import CAPTURE, HOOKPOINT, settings

DAY = datetime(2026, 3, 1, tzinfo=UTC)
KEY = {"capture": "c", "hookpoint": "h"}
COLUMNS = ("at", "n_tokens", "density", "density_before", "overlap", "status", "status_before",
           "value", "value_before", "explanation", "is_new_text", "top_tokens")  # fmt: skip


class Rows:
    def __init__(self, seed):
        rng = random.Random(seed)
        self.history, self.explanations, self.scores = [], [], []
        for latent in range(3):
            for n in range(rng.randrange(4)):
                top = [{"token_id": t, "count": 1, "pmi": 0.0}
                       for t in rng.sample(range(6), rng.randrange(4))]  # fmt: skip
                self.history.append(
                    row("history", **KEY, latent=latent, n_tokens=100 * n, density=rng.random(),
                        top_tokens=top, status=rng.choice(["ok", "rare"]),
                        created_at=DAY + timedelta(days=2 * n))
                )  # fmt: skip
            days = sorted(rng.sample(range(9), rng.randrange(4)))
            for day, after in zip(days, [*days, 99][1:], strict=True):
                name = f"{latent}-{day}"
                self.explanations.append(
                    row("explanations", **KEY, latent=latent, explanation=name, explainer="e",
                        text=rng.choice("ab"), created_at=DAY + timedelta(days=day))
                )  # fmt: skip
                late = rng.random() < 0.3  # measured again once the next one stood
                self.scores.append(
                    row("scores", **KEY, latent=latent, explanation=name, scorer="s", metric="m",
                        settings="x", value=rng.choice([None, 0.5, 0.75]),
                        created_at=DAY + timedelta(days=after if late else day, minutes=5))
                )  # fmt: skip

    def plain(self, latent):
        counted = [h for h in self.history if h["latent"] == latent]
        mine = [e for e in self.explanations if e["latent"] == latent]
        valued = []
        for e, follows in zip(mine, [*mine, None][1:], strict=True):
            for s in self.scores:
                if s["explanation"] == e["explanation"] and s["value"] is not None:
                    at = s["created_at"]
                    late = follows is not None and at >= follows["created_at"]
                    at = e["created_at"] if late else at
                    valued.append({"at": at, **s, "text": e["text"]})
        times = sorted({h["created_at"] for h in counted} | {v["at"] for v in valued})
        before = {}
        for moment, at in enumerate(times, start=1):
            h = ([h for h in counted if h["created_at"] <= at] or [{}])[-1]
            v = max((v for v in valued if v["at"] <= at), key=lambda v: v["at"], default={})
            listed = [t["token_id"] for t in h["top_tokens"]] if h else None
            top = None if listed is None else set(listed)
            now = {"density": h.get("density"), "status": h.get("status"), "top": top,
                   "value": v.get("value"), "text": v.get("text")}  # fmt: skip
            overlap = None
            if top is not None and before.get("top") is not None and top | before["top"]:
                overlap = len(top & before["top"]) / len(top | before["top"])
            is_new = None not in (now["text"], before.get("text")) and now["text"] != before["text"]
            yield moment, (at, h.get("n_tokens"), now["density"], before.get("density"), overlap,
                           now["status"], before.get("status"), now["value"],
                           before.get("value"), v.get("explanation"), is_new, listed)  # fmt: skip
            before = now


@pytest.mark.parametrize("seed", range(6))
def test_drift_is_what_was_known_before_and_after(seed):
    rows, con = Rows(seed), duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    for name in ("history", "explanations", "scores"):
        con.register(name, pa.Table.from_pylist(getattr(rows, name), TABLES[name].schema))
    given = {"explainer": "e", "scorer": "s", "metric": "m", "hookpoints": ["h"], "latents": [0, 1]}
    found = queries.load("report/drift").table(con, capture="c", **given).to_pylist()
    expected = [(i, n, *values) for i in (0, 1) for n, values in rows.plain(i)]
    assert [(r["latent"], r["moment"], *(r[c] for c in COLUMNS)) for r in found] == expected


def test_a_night_of_more_tokens_is_a_moment_of_every_latent_that_fired(grown, capsys, tmp_path):
    grown.capture()
    grown.rescore()
    config = settings(grown.root)
    found = drift(grown.lake, config, capture=CAPTURE)
    counts = {i: len({m.n_tokens for m in found if m.latent == i}) for i in range(6)}
    assert counts == {0: 2, 1: 2, 2: 2, 3: 2, 4: 1, 5: 1}
    moments = [m for m in found if m.latent == 0]
    assert [m.value for m in moments][-1] is not None
    svg = plot(moments)
    assert svg.startswith("<svg")
    assert svg.count("<circle") == len([m for m in moments if m.value is not None])
    command = ["drift", "--lake", grown.root, "--capture", CAPTURE, "--explainer", "default"]
    command += ["--scorers", "detection"]
    assert cli.run([*command, "--plot", str(tmp_path / "drift.svg"), "--latents", "0"]) == 0
    shown = capsys.readouterr().out
    assert f"{HOOKPOINT} 0" in shown
    assert (tmp_path / "drift.svg").read_text(encoding="utf-8").startswith("<svg")
    assert cli.run([*command, "--output", str(tmp_path / "drift.csv")]) == 0
    assert (tmp_path / "drift.csv").read_text().count("\n") == 1 + len(found)
