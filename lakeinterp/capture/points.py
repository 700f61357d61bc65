"""The coders of a capture, each with its place in the model, ready to encode.

Shapes: N tokens, D width.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from lakeinterp.capture.check import check_coder
from lakeinterp.coders import CoderFolder, find
from lakeinterp.coders.formats import neurons
from lakeinterp.coders.formats import random as random_coder
from lakeinterp.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from lakeinterp.capture.model import Read, SubjectModel
    from lakeinterp.coders import SparseCoder
    from lakeinterp.config import CaptureConfig


class Point(NamedTuple):
    """A loaded coder and where it reads in the model."""

    coder: SparseCoder
    read: Read
    target: Read
    """Where what it decodes to is found."""


def of_files(settings: CaptureConfig) -> CoderFolder | None:
    """Return the coders that are files, None if the model's own neurons are wanted.

    Raises:
        ConfigError: there is no coder that is known; NotFound if there is nothing at all.
    """
    if settings.format == "neurons":
        return None
    return find(
        settings.coder,
        settings.hookpoints,
        settings.coder_revision,
        format=settings.format,
        reads=settings.reads,
    )


def of_neurons(model: SubjectModel, settings: CaptureConfig) -> CoderFolder:
    """Return the neurons of the wanted MLPs as coders.

    Raises:
        NotFound: the model has no such MLP; the message names those that it has.
    """
    down = model.down_projections()
    plain = {name.removeprefix("model."): name for name in down}
    for name in settings.hookpoints:
        if name.removeprefix("model.") not in plain:
            raise NotFound("hookpoint", name, down, hint="among the MLPs of the model")
    if not down:
        raise ConfigError("capture.format: neurons, but the model has no MLP that is known")
    wanted = {plain[name.removeprefix("model.")] for name in settings.hookpoints} or set(down)
    chosen = {name: place for name, place in down.items() if name in wanted}
    return CoderFolder("neurons", "neurons", neurons.specs(chosen, settings.neurons_k), {})


def load(coders: CoderFolder, model: SubjectModel, settings: CaptureConfig) -> list[Point]:
    """Load every coder next to the model."""
    points = []
    for spec in coders.specs:
        read, target = model.resolve(spec), model.target(spec)
        coder = coders.load(spec, str(model.device_of(read)), settings.encode_chunk_bytes)
        points.append(Point(coder, read, target))
    return points


def settle(
    point: Point, row: Mapping[str, Any] | None, states: Mapping[Read, Tensor],
    device: torch.device, settings: CaptureConfig,
) -> Point:  # fmt: skip
    """Give a coder what its files leave open: an input scale, the sparsity of a control.

    Args:
        point: The coder.
        row: Its row in the lake, if an earlier run settled it.
        states: Hidden states by place, [N, D], of the corpus's first tokens; needed without a row.
        device: Where the model is.
        settings: Of the capture.

    Raises:
        ConfigError: the coder reads another width than the model has there.
    """
    coder = point.coder
    if row is None:
        check_width(point, states[point.read])
    if coder.inputs.is_open:
        if row is None:
            coder.inputs.calibrate(states[point.read])
        else:
            coder.inputs.scale = float(json.loads(row["checks"])["input_scale"])
    if settings.control != "random-coder":
        return point
    k = coder.spec.k if row is None else row["k"]
    if k is None:
        k = max(1, round(check_coder(coder, states[point.read], states[point.target]).l0))
    matched = random_coder.matched(coder, int(k), device, settings.encode_chunk_bytes)
    return Point(matched, point.read, point.read)


def agree(point: Point, row: Mapping[str, Any]) -> None:
    """Take the input scale that the lake holds, where it was measured and not in the files."""
    scale = json.loads(row["checks"]).get("input_scale")
    if scale is not None:
        point.coder.inputs.scale = float(scale)


def check_width(point: Point, x_ND: Tensor) -> None:
    """Refuse a coder of another width.

    Raises:
        ConfigError: names both widths and the place.
    """
    spec, read = point.coder.spec, point.read
    if x_ND.shape[-1] != spec.d_in:
        raise ConfigError(
            f"coder {spec.hookpoint}: reads width {spec.d_in}, but the {read.site} of "
            f"{read.module} has {x_ND.shape[-1]}"
        )
