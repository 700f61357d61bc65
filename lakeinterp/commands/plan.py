"""`lakeinterp plan`: what a run will come to, from a small slice of it in a temporary lake."""

from __future__ import annotations

import json
import re
import resource
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from lakeinterp import registry
from lakeinterp.commands.capture import (
    CoderArgument,
    DatasetOption,
    ModelArgument,
    TokensOption,
    WhereOption,
    values,
)
from lakeinterp.commands.common import Common, LatentOptions, console
from lakeinterp.commands.explain import ExplainerOption
from lakeinterp.commands.outlook import Interval, Outlook, lines
from lakeinterp.commands.score import ScorersOption
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lakeinterp.chat import Reply, Request
    from lakeinterp.config import Config, SamplingConfig
    from lakeinterp.lake import Lake

_DEFAULT = Common()
_ALL = LatentOptions()
_NAME = "plan"
_PARTS = 8
"""Shards of the slice: what differs between them makes the intervals."""
_PROBES = 10
"""Latents whose prompts are written in full."""
_DRAWS = 2000
_ROW_BYTES = 16
_COPIES = 4
"""Of a shard's rows in memory: gathered, joined, sorted, and those of the shard being written."""
_CHARACTERS = (3.0, 4.0, 5.5)
"""Of one token of a prompt: few, usual, many. Tokenizers and texts differ."""


def plan(
    model: ModelArgument = None,
    coder: CoderArgument = None,
    /,
    *,
    hookpoints: WhereOption = None,
    dataset: DatasetOption = None,
    n_tokens: TokensOption = None,
    explainer: ExplainerOption = None,
    scorers: ScorersOption = None,
    slice_tokens: Annotated[
        int, Parameter(help="Tokens to try it on; more make the intervals smaller.")
    ] = 65_536,
    chosen: LatentOptions = _ALL,
    common: Common = _DEFAULT,
) -> None:
    """Estimate bytes, time, memory and calls from a small slice, before anything runs.

    Takes the arguments of `lakeinterp run`. Nothing is written to the lake and no language model
    is asked: prompts are written, counted and thrown away.
    """
    given = values(model, coder, hookpoints, dataset, n_tokens)
    given |= {"explain.explainer": explainer, "score.scorers": scorers, **chosen.values()}
    config = common.load(given)
    for line in lines(estimate(config, slice_tokens)):
        console().print(line, markup=False, soft_wrap=True)


def estimate(config: Config, slice_tokens: int) -> Outlook:
    """Capture a slice into a temporary lake and project it on the whole.

    Raises:
        ConfigError: the slice is less than two sequences, or the choice of latents is none.
    """
    from lakeinterp.lake import Lake
    from lakeinterp.lake.selection import check_condition

    with tempfile.TemporaryDirectory(prefix="lakeinterp-plan-") as folder:
        small = _sliced(config, slice_tokens, folder)
        check_condition(Lake(folder), config.sampling)
        clock = _Clock()
        from lakeinterp.capture import capture

        done = capture(Lake(folder), small, progress=clock)
        return _outlook(config, small, Lake(folder), done.n_tokens, clock)


def _sliced(config: Config, slice_tokens: int, folder: str) -> Config:
    context = config.corpus.context_tokens
    n_sequences = min(slice_tokens, config.capture.n_tokens) // context
    if n_sequences < 2:
        raise ConfigError(f"--slice-tokens {slice_tokens}: give {2 * context} or more")
    shard = max(1, n_sequences // _PARTS) * context
    device = next(iter(config.capture.devices), config.capture.device)
    update = {
        "n_tokens": n_sequences * context,
        "shard_tokens": shard,
        "name": _NAME,
        # All of it by one worker in this process, whose time and memory are measured.
        "device": "cpu" if device.startswith("cpu:") else device,
        "devices": (),
        "shards": None,
    }
    capture = config.capture.model_copy(update=update)
    return config.model_copy(update={"lake": folder, "capture": capture})


class _Clock:
    """Notes when each batch was done."""

    def __init__(self) -> None:
        self._last: float | None = None
        self.batches: list[tuple[int, float]] = []
        """Tokens and seconds, of all but the first, which loads what is loaded on first use."""

    def __call__(self, *, tokens: int = 0, total: int = 0, rows: int = 0, n_bytes: int = 0) -> None:
        del total, rows, n_bytes
        if not tokens:
            return
        now = time.monotonic()
        if self._last is not None:
            self.batches.append((tokens, now - self._last))
        self._last = now


def _outlook(config: Config, small: Config, lake: Lake, n_seen: int, clock: _Clock) -> Outlook:
    from lakeinterp import pipeline
    from lakeinterp.sampling import sample

    # Memory first: what follows is not part of a capture.
    memory, gpu = _peak_bytes(), _gpu_peak_bytes()
    per_token = _rows_per_token(lake, small)
    n_tokens = config.capture.n_tokens
    rows = Interval(*(n_tokens * v for v in per_token))
    shard_growth = config.capture.shard_tokens - small.capture.shard_tokens
    memory += int(max(0, shard_growth) * per_token.expected * _ROW_BYTES * _COPIES)
    statistics = small.sampling.model_copy(update={"latents": (0,), "where": ""})
    sample(lake, small.model_copy(update={"sampling": statistics}))
    found = {
        "n_tokens": n_tokens,
        "slice_tokens": n_seen,
        "n_rows": rows,
        "n_bytes": _bytes(lake, rows, n_tokens / n_seen),
        "capture_s": _seconds(clock, n_tokens),
        "memory_bytes": memory,
        "gpu_bytes": gpu,
    }
    latents = _latents(lake, config, n_tokens / n_seen)
    if not (pipeline.needs_chat(config, "explain") or pipeline.needs_chat(config, "score")):
        return Outlook(**found, n_latents=latents)  # type: ignore[arg-type]
    probed = _probe(lake, small)
    if not probed.n_latents:
        note = "no latent of the slice has enough windows to write prompts; raise --slice-tokens"
        return Outlook(**found, n_latents=latents, note=note)  # type: ignore[arg-type]
    calls = _calls(probed, latents)
    usd = {route: _usd(config, route, calls) for route in calls["calls"]}
    return Outlook(**found, n_latents=latents, **calls, usd=usd)  # type: ignore[arg-type]


# -- capture ----------------------------------------------------------------------------------


def _rows_per_token(lake: Lake, small: Config) -> Interval:
    from lakeinterp.lake import commits

    delta = lake.create("activations")
    tokens: dict[int, int] = {}
    for file in commits.live_files(delta):
        shard = int(file.minimum["token"]) // small.capture.shard_tokens
        tokens[shard] = tokens.get(shard, 0) + (file.n_rows or 0)
    shards = small.capture.n_tokens / small.capture.shard_tokens
    each = [n / small.capture.shard_tokens for n in list(tokens.values())[: max(1, int(shards))]]
    return bootstrap(each or [0.0])


def _bytes(lake: Lake, rows: Interval, ratio: float) -> Interval:
    """Bytes of activations between those of small shards and those of merged ones; and the text."""
    from lakeinterp.lake import commits
    from lakeinterp.lake.compaction import compact

    def held(name: str) -> tuple[int, int]:
        files = commits.live_files(lake.create(name))
        return sum(f.n_bytes for f in files), sum(f.n_rows or 0 for f in files)

    before, n_rows = held("activations")
    compact(lake, _NAME)
    after, _ = held("activations")
    text = held("sequences")[0] * ratio
    n = max(1, n_rows)
    found = rows.times(after / n, (before + after) / 2 / n, before / n)
    return Interval(*(v + text for v in found))


def _seconds(clock: _Clock, n_tokens: int) -> Interval:
    if not clock.batches:
        return Interval(0.0, float("nan"), float("inf"))
    return Interval(*(n_tokens * v for v in bootstrap([s / n for n, s in clock.batches])))


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _gpu_peak_bytes() -> int | None:
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def bootstrap(found: Sequence[float]) -> Interval:
    """Return the mean of measurements with its percentile interval, drawn with a fixed seed."""
    import numpy as np

    values = np.asarray(found, np.float64)
    draws = np.random.default_rng(0).integers(0, len(values), (_DRAWS, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    return Interval(float(low), float(values.mean()), float(high))


# -- language models --------------------------------------------------------------------------


def _latents(lake: Lake, config: Config, ratio: float) -> Interval:
    """Return how many latents will be explained, in all hookpoints together."""
    from lakeinterp.lake import queries

    with lake.connect() as con:
        rows = (
            queries.load("stats/outlook")
            .run(con, capture=_NAME, ratio=ratio, min_windows=config.sampling.min_windows)
            .fetchall()
        )
    cap = len(config.sampling.latents) or config.sampling.max_latents or sys.maxsize
    shares = [_share(lake, config.sampling, str(row[0]), int(row[1])) for row in rows]
    totals = [
        sum(min(share * row[column], cap) for row, share in zip(rows, shares, strict=True))
        for column in (3, 4, 5)
    ]
    return Interval(*map(float, totals))


def _share(lake: Lake, sampling: SamplingConfig, hookpoint: str, n_latents: int) -> float:
    """Return which share of the latents that fire in the slice fulfils `sampling.where`.

    Raises:
        ConfigError: a listed latent is outside the coder's width.
    """
    from lakeinterp.lake.selection import chosen_latents

    every = {"max_latents": None, "min_windows": 1}
    among = sampling.model_copy(update=every)
    chosen = chosen_latents(lake, _NAME, hookpoint, among, n_latents=n_latents)
    if sampling.latents or not sampling.where:
        return 1.0
    firing = among.model_copy(update={"where": ""})
    return len(chosen) / max(
        1, len(chosen_latents(lake, _NAME, hookpoint, firing, n_latents=n_latents))
    )


class _Asked(NamedTuple):
    route: str
    n_characters: int
    max_tokens: int


class _Probed(NamedTuple):
    """The questions about some latents."""

    n_latents: int
    most: Sequence[_Asked] = ()
    """If no two replies are alike, and the judge finds something wrong with every explanation."""
    fewest: Sequence[_Asked] = ()
    """If the explainer always says the same, and nothing is found to be wrong with it."""


def _probe(lake: Lake, small: Config) -> _Probed:
    """Write all prompts of some latents of the slice."""
    from lakeinterp import pipeline
    from lakeinterp.chat import ScriptedChat
    from lakeinterp.lake import queries, units
    from lakeinterp.sampling import sample

    hookpoint = str(units.hookpoints(lake, _NAME)[0]["hookpoint"])
    key = {"capture": _NAME, "hookpoint": hookpoint}
    n = max(_PROBES, small.score.n_borrowed + 1)
    with lake.connect() as con:
        busiest = queries.load("stats/busiest").run(
            con, **key, min_windows=small.sampling.min_windows, n=n
        )
        latents = tuple(latent for latent, _ in busiest.fetchall())
    if not latents:
        return _Probed(0)
    chosen = {"latents": latents, "max_latents": None, "where": ""}
    probed = small.model_copy(update={"sampling": small.sampling.model_copy(update=chosen)})
    sample(lake, probed, capture=_NAME, hookpoints=[hookpoint])
    given = {"run": _NAME, "capture": _NAME, "hookpoints": [hookpoint]}
    asks = pipeline.needs_chat(small, "explain")
    asked: dict[bool, list[_Asked]] = {}
    for is_same in (True, False):
        asked[is_same] = []
        other = _with_texts(probed, int(is_same))
        chat = ScriptedChat(_explaining(asked[is_same], is_same=is_same))
        pipeline.explain(other, **given, chat=chat)  # type: ignore[arg-type]
        asked[is_same] *= asks
    judged: list[_Asked] = []
    chat = ScriptedChat(_judging(judged))
    pipeline.score(_with_texts(probed, 0), **given, chat=chat)  # type: ignore[arg-type]
    return _Probed(len(latents), [*asked[False], *judged], [*asked[True], *judged])


def _with_texts(config: Config, more: int) -> Config:
    """Return settings whose explainer has something to say about latents of a new lake.

    Args:
        config: The settings.
        more: Other explanations for every number; added to the longest reply.
    """
    explain = config.explain
    update: dict[str, object] = {"max_tokens": explain.max_tokens + more}
    if registry.resolve("explainer", explain.explainer).takes_texts:
        update["explainer"] = "default"
    return config.model_copy(update={"explain": explain.model_copy(update=update)})


def _noted(asked: list[_Asked], request: Request) -> None:
    n_characters = sum(len(message.content) for message in request.messages)
    asked.append(_Asked(request.route, n_characters, request.max_tokens))


def _explaining(asked: list[_Asked], *, is_same: bool) -> Callable[[Request], str | Reply]:
    """Return a script that notes each question and explains; a judge takes nothing to fit.

    So every explanation misses what it is for. Where the explainer always says the same the judge
    gives no answer, and finds no fault.
    """

    def answer(request: Request) -> str | Reply:
        if request.route == "judge" and is_same:
            return _judging(asked)(request)
        _noted(asked, request)
        if request.route == "judge":
            texts = re.findall(r"^\d+: ", request.messages[-1].content, re.MULTILINE)
            return json.dumps({"labels": [0] * len(texts)})
        n = 0 if is_same else len(asked)
        return json.dumps({"explanation": f"words about subject {n}, in texts of one kind"})

    return answer


def _judging(asked: list[_Asked]) -> Callable[[Request], Reply]:
    """Return a script that notes each question and answers none, so that all are asked."""

    def answer(request: Request) -> Reply:
        from lakeinterp.chat import Reply

        _noted(asked, request)
        return Reply(key="", status="http_error", text=None, reason="a plan asks nobody")

    return answer


def _calls(probed: _Probed, latents: Interval) -> dict[str, dict[str, Interval]]:
    """Project the probes' questions on all latents, by route."""
    found: dict[str, dict[str, Interval]] = {"calls": {}, "prompt_tokens": {}, "reply_tokens": {}}
    few, usual, many = _CHARACTERS
    for route in sorted({question.route for question in probed.most}):
        mine = [question for question in probed.most if question.route == route]
        fewest = sum(question.route == route for question in probed.fewest) / probed.n_latents
        each = len(mine) / probed.n_latents
        calls = latents.times(min(fewest, each), each, each)
        length = bootstrap([question.n_characters for question in mine])
        longest = max(question.max_tokens for question in mine)
        found["calls"][route] = calls
        found["prompt_tokens"][route] = calls.times(
            length.low / many, length.expected / usual, length.high / few
        )
        found["reply_tokens"][route] = calls.times(5, min(longest, 60), longest)
    return found


def _usd(config: Config, route: str, calls: dict[str, dict[str, Interval]]) -> Interval | None:
    from lakeinterp.chat.backend import usual_price

    price = usual_price(config.chat, route)  # type: ignore[arg-type]
    if price.state == "unknown":
        return None
    both = zip(calls["prompt_tokens"][route], calls["reply_tokens"][route], strict=True)
    return Interval(*(n * price.input + m * price.output for n, m in both))
