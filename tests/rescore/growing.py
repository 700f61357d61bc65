"""A planted lake that grows night by night, and a language model that counts what it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lakeinterp import pipeline
from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.config import Config
from lakeinterp.lake import Lake
from lakeinterp.lake.activations import bucket_latents, write_activations
from lakeinterp.lake.units import shard_app
from lakeinterp.rescore import rescore
from tests.planted import HOOKPOINT, planted_lake
from tests.rule_driven import answer

CAPTURE, CONTEXT, N_LATENTS, N_BUCKETS = "grown", 64, 6, 3
QUIET = (4, 5)
"""Latents of the last bucket, which fire in the first night's tokens alone."""
FIRST, NIGHT = 60, 30
"""Sequences of the first night and of each night after."""
KEY = {"capture": CAPTURE, "hookpoint": HOOKPOINT}


def settings(root, **sections) -> Config:
    values = {
        "lake": str(root),
        "corpus": {"context_tokens": CONTEXT},
        "sampling": {
            "window_tokens": 16, "n_quantiles": 2, "n_explain": 8, "n_explain_negatives": 8,
            "n_score": 10, "n_random": 10, "min_windows": 4, "workers": 1,
        },
        "explain": {"explainer": "default"},
        "score": {"scorers": ["detection"], "n_borrowed": 1, "repeat_share": 0},
    }  # fmt: skip
    for name, more in sections.items():
        values[name] = {**values.get(name, {}), **more}
    return Config.model_validate(values)


@dataclass
class Growing:
    """The lake, what it will grow by, and the model."""

    root: str
    n_sequences: int = FIRST + 3 * NIGHT
    asked: list = field(default_factory=list)

    def __post_init__(self):
        made = planted_lake(
            self.root, n_sequences=self.n_sequences, n_latents=N_LATENTS, n_buckets=N_BUCKETS
        )
        self.lake, self.dense = made.lake, made.dense
        self.dense[FIRST * CONTEXT :, QUIET] = 0
        for name in ("captures", "hookpoints"):
            (row,) = self.lake.rows(name)
            self.lake.upsert(name, [row | {"capture": CAPTURE}], scope={"capture": CAPTURE})
        self.shard = self.done = 0
        self.capture(FIRST)

    def capture(self, n=NIGHT):
        """Append a shard of so many sequences."""
        first, stop = self.done, self.done + n
        part = self.dense[first * CONTEXT : stop * CONTEXT]
        latents, tokens = np.nonzero(part.T)
        files = write_activations(
            self.lake.store, **KEY, latents_per_bucket=bucket_latents(N_LATENTS, N_BUCKETS),
            latents=latents.astype(np.int32), tokens=(tokens + first * CONTEXT).astype(np.int64),
            values=part[tokens, latents], name=f"shard-{self.shard:05d}",
        )  # fmt: skip
        assert self.lake.publish(
            "activations", files, app=shard_app(CAPTURE, self.shard), version=n
        )
        self.shard, self.done = self.shard + 1, stop

    @property
    def chat(self):
        return ScriptedChat(self._answer)

    def _answer(self, request):
        self.asked.append(request)
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        return answer({"messages": messages})

    def rescore(self, config=None, **given):
        """Re-score and return what it did and how often the model was asked."""
        before = len(self.asked)
        done = rescore(
            config or settings(self.root), run="r", capture=CAPTURE, **{"chat": self.chat, **given}
        )
        return done, len(self.asked) - before

    def plainly(self, config=None):
        """Explain and score as the plain commands do."""
        for step in (pipeline.explain, pipeline.score):
            step(config or settings(self.root), run="r", capture=CAPTURE, chat=self.chat)


def rows_of(lake: Lake, name: str, **values):
    """Return a table's rows of the grown capture with these values, without run and time."""
    found = [r for r in lake.rows(name) if r.get("capture") == CAPTURE]
    found = [r for r in found if all(r[k] == v for k, v in values.items())]
    return [{k: v for k, v in r.items() if k not in ("run", "created_at")} for r in found]
