"""What Neuronpedia calls a capture and its hookpoints, and ids it accepts."""

from __future__ import annotations

import re
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.bridges.base import Export, Names
    from lakeinterp.bridges.chosen import Chosen

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_BLOCK = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


class Source(NamedTuple):
    """One hookpoint as a source."""

    model: str
    set: str
    layer: int

    @property
    def id(self) -> str:
        """Id of the source: layer and source set."""
        return f"{self.layer}-{self.set}"


def sources(places: Sequence[Chosen], options: Export) -> list[Source]:
    """Return the source of each hookpoint.

    Raises:
        ConfigError: a layer is not to be seen from a name, or two hookpoints get one id.
    """
    names = options.names
    model = names.model or slug(PurePosixPath(str(places[0].capture["model"])).name) or "model"
    found = [Source(model, _set(place, names, places), layer_of(place, names)) for place in places]
    ids = [source.id for source in found]
    if twice := next((i for i in ids if ids.count(i) > 1), None):
        raise ConfigError(
            f"hookpoints {', '.join(p.name for p in places)} get one source id, {twice}: export "
            "one at a time with --hookpoints, each with a --source-set of its own"
        )
    return found


def layer_of(place: Chosen, names: Names) -> int:
    """Return the layer of a hookpoint.

    Raises:
        ConfigError: its name holds no number and none was given.
    """
    if names.layer is not None:
        return names.layer
    match = _BLOCK.search(place.name)
    if match is None:
        raise ConfigError(f"{place.name} does not say its layer: give --layer")
    return int(match[1])


def _set(place: Chosen, names: Names, places: Sequence[Chosen]) -> str:
    """Return the source set: as given or by the capture, with the kind of the hookpoint."""
    base = names.source_set or slug(str(place.capture["capture"]))
    kind = slug(_BLOCK.split(place.name)[-1]) or "res"
    return base if names.source_set and len(places) == 1 else f"{base}-{kind}"


def slug(text: str) -> str:
    """Return text as a part of an address: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def cuid(*parts: object) -> str:
    """Return an id of 25 letters and digits that follows from its parts alone."""
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    number = int.from_bytes(blake2b(text, digest_size=16).digest())
    letters = ""
    for _ in range(24):
        number, place = divmod(number, 36)
        letters += _DIGITS[place]
    return f"c{letters}"
