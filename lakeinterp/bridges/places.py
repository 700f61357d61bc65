"""Captures for what other tools say of latents: one that the lake holds, or a new, textless one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lakeinterp.errors import ConfigError
from lakeinterp.lake import where
from lakeinterp.terms import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakeinterp.lake import Lake


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a new capture is called and what its row says."""

    format: str
    """Name of the import."""
    capture: str
    model: str = ""
    coder: str = ""
    tokenizer: str = ""
    config: Mapping[str, Any]
    """Kept in the row as JSON, under the format's name."""


def settle(lake: Lake, place: Place, widths: Mapping[str, int]) -> None:
    """Find or make the capture and its hookpoints.

    Args:
        lake: The lake.
        place: The capture; one that the lake holds is taken as it is.
        widths: Latents of each hookpoint, at least.

    Raises:
        ConfigError: the lake holds a capture of this name that was captured, or imported by
            another tool, without one of the hookpoints, or with fewer latents.
    """
    held = next(iter(lake.rows("captures", where(capture=place.capture))), None)
    if held is None:
        lake.upsert("captures", [_row(place)], scope={"capture": place.capture})
    is_own = held is None or json.loads(held["config"]).get("import") == place.format
    known = {r["hookpoint"]: r for r in lake.rows("hookpoints", where(capture=place.capture))}
    for name, n_latents in widths.items():
        row = known.get(name)
        if row is not None and row["n_latents"] >= n_latents:
            continue
        if not is_own:
            raise ConfigError(_misfit(place, name, n_latents, known))
        if row is not None:
            n_latents = max(n_latents, row["n_latents"])
        rows = [_hookpoint(place, name, n_latents)]
        lake.upsert("hookpoints", rows, scope={"capture": place.capture})


def _misfit(place: Place, name: str, n_latents: int, known: Mapping[str, Any]) -> str:
    found = (
        f"has {known[name]['n_latents']:,} latents at {name}, the files speak of latent "
        f"{n_latents - 1:,}"
        if name in known
        else f"has no hookpoint {name} (it has {', '.join(sorted(known)) or 'none'})"
    )
    return f"{place.format}: capture {place.capture} {found}: give another --name"


def _row(place: Place) -> dict[str, Any]:
    return {
        "capture": place.capture,
        "created_at": now(),
        "model": place.model,
        "model_revision": "",
        "tokenizer": place.tokenizer,
        "coder": place.coder,
        "coder_revision": "",
        "corpus": "",
        "context_tokens": 0,
        "excluded": [],
        "value_dtype": "float32",
        "config": json.dumps({"import": place.format, place.format: dict(place.config)}),
        "versions": json.dumps({name: version(name) for name in ("deltalake", "pyarrow")}),
    }


def _hookpoint(place: Place, name: str, n_latents: int) -> dict[str, Any]:
    return {
        "capture": place.capture,
        "hookpoint": name,
        "format": place.format,
        "architecture": None,
        "site": None,
        "module": name,
        "d_in": None,
        "n_latents": n_latents,
        # Buckets that do not move when later files speak of further latents.
        "bucket_latents": 256,
        "k": None,
        "l0": None,
        "explained_variance": None,
        "checks": json.dumps({"n_latents": "as far as the files speak of them"}),
    }
