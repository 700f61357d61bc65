"""Nights of more tokens on the demo's model: what is counted, drawn, explained and asked again.

    python benchmarks/nightly.py [--first 65536] [--night 8192] [--latents 10] [--record FILE]

One lake, explained in two ways: by the pattern rule, which asks nobody, and by a language model
that follows rules behind a real HTTP server on loopback, which counts its requests. Night 1
captures the first tokens; nights 2 to 4 append a batch each; night 5 appends nothing; then a night
with another judge and a budget of calls, one for the rest of it, and one that judges old scores
anew. Every night runs capture and `lakeinterp.rescore.rescore`, nothing else.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lakeinterp import pipeline
from lakeinterp.capture import capture
from lakeinterp.commands.demo import settings
from lakeinterp.config import Config, load
from lakeinterp.lake import Lake
from lakeinterp.rescore import Rescored, rescore
from tests.rule_driven import answer
from tests.wire import Wire

COLUMNS = (
    *("night", "explained by", "units redone", "examples", "latents redone", "of out of date"),
    *("explanations", "judgements", "calls", "HTTP requests", "history rows", "CPU s"),
)
PATTERN = {"explain.explainer": "pattern", "score.scorers": ["pattern"]}
MODEL = {"explain.explainer": "default", "score.scorers": ["detection"], "score.n_borrowed": 2}


def main() -> None:
    """Run the nights and print or record the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=65_536, help="tokens of the first night")
    parser.add_argument("--night", type=int, default=8_192, help="tokens of each later night")
    parser.add_argument("--latents", type=int, default=10, help="latents a hookpoint of the model")
    parser.add_argument("--rules", type=int, default=50, help="latents a hookpoint of the rule")
    parser.add_argument("--buckets", type=int, default=32, help="buckets a hookpoint")
    parser.add_argument("--record", type=Path)
    given = parser.parse_args()
    with Wire(answer) as wire, tempfile.TemporaryDirectory() as folder:
        rows = []
        for row in Nights(folder, wire, given).run():
            rows.append(row)
            os.write(2, (" | ".join(row) + "\n").encode())
    lines = [_head(given), "", "| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    text = "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"
    if given.record:
        given.record.write_text(text, encoding="utf-8")
    os.write(1, text.encode())


class Nights:
    """One lake that grows, and what each night came to."""

    def __init__(self, folder: str, wire: Wire, given: argparse.Namespace) -> None:
        self._folder, self._wire, self._given = folder, wire, given

    def run(self) -> Iterator[tuple[str, ...]]:
        """Yield the rows of the table."""
        for n in range(4):
            name = (
                "1: everything is new" if not n else f"{n + 1}: {self._given.night:,} tokens more"
            )
            yield from self._both(name, n)
        yield from self._both("5: nothing new", 3)
        calls = 8 * self._given.latents
        other: dict[str, Any] = {"score.max_tokens": 400}
        budget = {**other, "rescore.max_calls": calls}
        yield self._one(
            f"6: another judge setting, at most {calls} calls", self._model(3, **budget)
        )
        yield self._one("7: the rest of it, without a limit", self._model(3, **other))
        yield self._one("8: nothing new", self._model(3, **other))
        old = {**other, "rescore.older_than_days": 1e-9, "rescore.max_latents": 5}
        yield self._one("9: all scores too old, at most 5 latents", self._model(3, **old))

    def _both(self, name: str, n: int) -> Iterator[tuple[str, ...]]:
        config = self._config(n, **PATTERN, **{"sampling.max_latents": self._given.rules})
        start = time.process_time()
        done = capture(Lake(self._folder), config)
        took = f"{time.process_time() - start:.1f}"
        yield (f"{name}: capture of {done.n_tokens:,}", *[""] * (len(COLUMNS) - 2), took)
        yield self._one(name, config)
        yield self._one(name, self._model(n))

    def _model(self, n: int, **more: Any) -> Config:
        config = self._config(n, **MODEL, **{"sampling.max_latents": self._given.latents}, **more)
        asked = config.chat.model_copy(update={"explainer": self._wire.route()})
        return config.model_copy(update={"chat": asked})

    def _config(self, n: int, **more: Any) -> Config:
        given = self._given
        values = {
            **settings(self._folder),
            "capture.shard_tokens": given.first,
            "capture.n_buckets": given.buckets,
            "capture.n_tokens": given.first + n * given.night,
        }
        return load(values={**values, **more})

    def _one(self, name: str, config: Config) -> tuple[str, ...]:
        n_before, start = self._wire.n_requests, time.process_time()
        done = rescore(config, run=pipeline.new_run())
        cpu_s = time.process_time() - start
        fresh = done.refreshed
        return (
            name,
            config.explain.explainer,
            f"{fresh.n_refreshed} of {fresh.n_units}",
            f"{fresh.n_examples:,}",
            str(done.n_done),
            f"{done.n_done + done.n_left}" + _why(done),
            str(sum(done.explained.values())),
            f"{sum(done.judged.values()):,}",
            str(done.spent.n_calls),
            str(self._wire.n_requests - n_before),
            f"{fresh.n_recorded:,}",
            f"{cpu_s:.1f}",
        )


def _why(done: Rescored) -> str:
    why = ", ".join(f"{n} {name}" for name, n in done.reasons.most_common())
    return f" ({why})" if why else ""


def _head(given: argparse.Namespace) -> str:
    options = " ".join(
        f"--{name} {getattr(given, name)}"
        for name in ("first", "night", "latents", "rules", "buckets")
    )
    return (
        "# Nightly re-scoring of the demo's model\n\n"
        f"`python benchmarks/nightly.py {options}`, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPUs.\n\n"
        f"The first night captures {given.first:,} tokens of the demo corpus at two hookpoints. "
        "`units redone` were\ncounted and drawn again, because one of their latents fired in the "
        "new tokens; the rule goes first\neach night, so the model finds them done. `calls` is "
        "what the run counted, `HTTP requests` what the\nserver received. CPU seconds are of this "
        "process and its threads, the server's among them."
    )


if __name__ == "__main__":
    main()
