"""From settings to a run that can encode: model loaded, coders measured, the capture written down.

Nothing is written to the lake before everything that can be refused was looked at.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import torch

from lakeinterp.capture import batches
from lakeinterp.capture import plan as plans
from lakeinterp.capture import points as points_of
from lakeinterp.capture.boundaries import positions, refuse_if_crossed
from lakeinterp.capture.check import check_coder, refuse_if_far, refuse_nonfinite
from lakeinterp.capture.model import SubjectModel
from lakeinterp.capture.shard import Run, active_of, stack
from lakeinterp.errors import ConfigError
from lakeinterp.lake import shards, where

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor

    from lakeinterp.capture.check import Check
    from lakeinterp.capture.model import Read
    from lakeinterp.capture.plan import Plan
    from lakeinterp.capture.points import Point
    from lakeinterp.coders import CoderFolder
    from lakeinterp.config import Config
    from lakeinterp.corpus import Sequence, SequenceSource, Tokenizer
    from lakeinterp.lake import Lake

_CHECKED_TOKENS = 4096


@dataclass(frozen=True)
class Opened:
    """A loaded model and a plan; the coders are found and not yet loaded."""

    lake: Lake
    config: Config
    tokenizer: Tokenizer
    model: SubjectModel
    coders: CoderFolder
    plan: Plan
    epoch: int


def n_checked(config: Config) -> int:
    """Return on how many leading sequences coders are measured, however many are captured."""
    return _CHECKED_TOKENS // config.corpus.context_tokens or 1


def open_capture(
    lake: Lake, config: Config, tokenizer: Tokenizer, source: SequenceSource, device: str
) -> Opened:
    """Load the model and say what the capture is.

    Raises:
        ConfigError: a setting is wrong.
        NotFound: the model, a coder or a hookpoint does not exist.
    """
    settings = config.capture.model_copy(update={"device": device})
    coders = points_of.of_files(settings)
    model = SubjectModel(settings)
    coders = coders or points_of.of_neurons(model, settings)
    plan = plans.make_plan(config, source.corpus, model, coders, tokenizer)
    # Before the capture's row is looked at: from here on a `forget` ends this run.
    epoch = shards.epoch(lake, plan.capture)
    plans.check_same(lake, plan)
    return Opened(lake, config, tokenizer, model, coders, plan, epoch)


def first_sequences(source: SequenceSource, config: Config) -> list[Sequence]:
    """Return what coders are measured on.

    Raises:
        ConfigError: the corpus has not even one sequence.
    """
    with closing(source.read(0, n_checked(config))) as chunks:
        found = list(chain.from_iterable(chunks))
    if not found:
        raise ConfigError(
            f"corpus.dataset: {config.corpus.dataset} has less text than one sequence of "
            f"{config.corpus.context_tokens} tokens: give more, or lower corpus.context_tokens"
        )
    return found


def make_ready(opened: Opened, sequences: list[Sequence]) -> Run:
    """Load the coders, measure those that are new, and write the capture down.

    Args:
        opened: The capture.
        sequences: As `first_sequences` returns them.

    Raises:
        ConfigError: a coder does not fit the model; nothing was written.
        NonFinite: the model gives no finite numbers for these tokens.
    """
    lake, plan, settings = opened.lake, opened.plan, opened.config.capture
    points = points_of.load(opened.coders, opened.model, settings)
    special = torch.tensor(opened.tokenizer.special, dtype=torch.int64)
    tokens_BT = stack(sequences)
    places = list({place for point in points for place in (point.read, point.target)})
    ordered = opened.model.in_order(places, tokens_BT[:1])
    known = _known(lake, plan)
    states: dict[Read, Tensor] = {}
    if any(point.coder.spec.hookpoint not in known for point in points):
        if settings.document_attention:
            refuse_if_crossed(opened.model, ordered, tokens_BT)
        states = _states(opened, points, ordered, sequences, special)
    settled = [_settled(opened, point, known, states) for point in points]
    plans.write_plan(
        lake, plan, opened.config, opened.coders, opened.model.revision, opened.tokenizer
    )
    for point, check in settled:
        if check is not None:
            plans.write_hookpoint(lake, plan, point, check, settings.n_buckets)
    points = _agreed(lake, plan, [point for point, _ in settled])
    wanted = {point.read for point in points}
    reads = [read for read in ordered if read in wanted]
    run = Run(
        lake, opened.config, plan, opened.epoch, opened.model, points, reads, special,
        batches.Batches(1),
    )  # fmt: skip
    size = batches.choose(
        settings.batch_sequences, opened.model.device, tokens_BT, lambda x: active_of(run, x)
    )
    run.batches.size = size.size
    return run


def _known(lake: Lake, plan: Plan) -> dict[str, dict[str, Any]]:
    rows = lake.rows("hookpoints", where(capture=plan.capture))
    return {row["hookpoint"]: row for row in rows}


def _states(
    opened: Opened,
    points: list[Point],
    ordered: list[Read],
    sequences: list[Sequence],
    special: Tensor,
) -> dict[Read, Tensor]:
    """Return hidden states by place, [N, D], of the tokens that are no special ones."""
    tokens_BT = stack(sequences)
    apart = opened.config.capture.document_attention
    hidden = opened.model.hidden(
        tokens_BT, ordered, positions_BT=positions(sequences) if apart else None
    )
    keep_BT = ~torch.isin(tokens_BT, special)
    names = {p.read: p.coder.spec.hookpoint for p in reversed(points)}
    fine_N = torch.ones(int(keep_BT.sum()), dtype=torch.bool)
    states = {}
    for read, x_BTD in hidden.items():
        states[read] = x_BTD[keep_BT.to(x_BTD.device)]
        finite_N = torch.isfinite(states[read]).all(-1).cpu()
        if not opened.config.capture.allow_nonfinite:
            refuse_nonfinite(names.get(read, read.module), finite_N, keep_BT)
        fine_N &= finite_N
    return {read: x_ND[fine_N.to(x_ND.device)] for read, x_ND in states.items()}


def _settled(
    opened: Opened, point: Point, known: dict[str, dict[str, Any]], states: dict[Read, Tensor]
) -> tuple[Point, Check | None]:
    """Return a point whose coder leaves nothing open, and what was measured if it is new."""
    settings = opened.config.capture
    row = known.get(point.coder.spec.hookpoint)
    device = opened.model.device_of(point.read)
    point = points_of.settle(point, row, states, device, settings)
    if row is not None:
        return point, None
    check = check_coder(point.coder, states[point.read], states[point.target])
    place = f"the {point.read.site} of {point.read.module}"
    refuse_if_far(point.coder, check, place, settings)
    return point, check


def _agreed(lake: Lake, plan: Plan, points: list[Point]) -> list[Point]:
    """Take over what another process measured of the same coders before this one wrote it down."""
    known = _known(lake, plan)
    for point in points:
        points_of.agree(point, known[point.coder.spec.hookpoint])
    return points
