"""What an export is of: its capture, its hookpoints, and the latents the settings choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.lake import queries, where
from lakeinterp.lake.selection import chosen_latents
from lakeinterp.lake.units import hookpoints
from lakeinterp.lake.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.bridges.base import Export
    from lakeinterp.lake import Lake


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One hookpoint of an export."""

    lake: Lake
    capture: dict[str, Any]
    """Its row."""
    hookpoint: dict[str, Any]
    """Its row."""
    latents: tuple[int, ...] | None
    """Those the settings choose, sorted; None if they choose none in particular."""

    @property
    def key(self) -> dict[str, str]:
        """Capture and hookpoint."""
        return {"capture": self.capture["capture"], "hookpoint": self.hookpoint["hookpoint"]}

    @property
    def name(self) -> str:
        """The hookpoint's name."""
        return str(self.hookpoint["hookpoint"])

    @property
    def wanted(self) -> list[int] | None:
        """The latents as statements take them; None stands for all."""
        return None if self.latents is None else list(self.latents)

    def inside(self, latents: Sequence[int]) -> list[int]:
        """Return those of some latents that are chosen."""
        return [i for i in latents if self.latents is None or i in self.latents]


def choose(lake: Lake, options: Export) -> list[Chosen]:
    """Return the hookpoints of an export.

    Raises:
        NotFound: no such capture or hookpoint.
        ConfigError: a listed latent is outside the coder's width, or a condition is none.
    """
    row, sampling = lake.capture(options.capture), options.config.sampling
    is_asked = bool(sampling.latents or sampling.where or sampling.max_latents)
    found = []
    for hookpoint in hookpoints(lake, str(row["capture"]), options.hookpoints):
        latents = None
        if is_asked:
            latents = tuple(
                chosen_latents(
                    lake, str(row["capture"]), str(hookpoint["hookpoint"]), sampling,
                    n_latents=int(hookpoint["n_latents"]),
                )
            )  # fmt: skip
        found.append(Chosen(lake=lake, capture=row, hookpoint=hookpoint, latents=latents))
    return found


def only_explainer(lake: Lake, capture: str, wanted: str | None) -> str:
    """Return the explainer whose explanations are exported.

    Raises:
        NotFound: it explained nothing of the capture.
        ConfigError: there are several, or none.
    """
    held = explainers(lake, capture)
    if wanted is not None and wanted not in held:
        raise NotFound("explainer", wanted, held, hint=f"in capture {capture}")
    if wanted is None and len(held) != 1:
        raise ConfigError(
            f"{capture} has explanations by {', '.join(held)}: say by which with --explainer"
            if held
            else f"{capture} has no explanations yet: run `lakeinterp explain` first"
        )
    return wanted or held[0]


def explainers(lake: Lake, capture: str) -> list[str]:
    """Return the explainers of a capture's explanations, sorted."""
    with lake.connect(explanations=where(capture=capture)) as con:
        rows = queries.load("explain/explainers").run(con).fetchall()
    return sorted({name for at, name, _ in rows if at == capture})


def vocabulary(lake: Lake, capture: dict[str, Any]) -> Vocabulary:
    """Return the capture's vocabulary; of one imported without texts an empty one."""
    if not capture["tokenizer"]:
        return Vocabulary("", ())
    return lake.vocabulary(str(capture["tokenizer"]))
