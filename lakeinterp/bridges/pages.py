"""Everything the lake knows of one latent, latent after latent: what exported pages are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lakeinterp.bridges.chosen import vocabulary
from lakeinterp.bridges.strongest import N_TOP, strongest
from lakeinterp.errors import ConfigError
from lakeinterp.lake import Bench, queries, where
from lakeinterp.lake import units as units_of
from lakeinterp.lake.units import examples, latents_of, sample_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakeinterp.bridges.base import Export
    from lakeinterp.bridges.chosen import Chosen
    from lakeinterp.bridges.strongest import Find
    from lakeinterp.lake import Vocabulary
    from lakeinterp.terms import Example, Unit


class Token(NamedTuple):
    """A token of the output and what is added to its logit."""

    text: str
    value: float


class _Outputs(NamedTuple):
    raised: tuple[Token, ...]
    lowered: tuple[Token, ...]


_NO_OUTPUTS = _Outputs((), ())


class Group(NamedTuple):
    """The drawn windows of one quantile, strongest first."""

    quantile: int
    """1 is the strongest."""
    examples: tuple[Example, ...]
    share: float | None
    """Of the latent's windows, those that the quantile holds; None if they were not counted."""

    @property
    def low(self) -> float:
        """Lowest peak that was drawn."""
        return min(example.peak for example in self.examples)

    @property
    def high(self) -> float:
        """Highest peak that was drawn."""
        return max(example.peak for example in self.examples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One latent."""

    latent: int
    counted: Mapping[str, Any]
    """Its row of `latents`; empty if there is none."""
    top: tuple[Example, ...] = ()
    """Its strongest windows: of all that it has, or of those drawn if only they are there."""
    active: tuple[Example, ...] = ()
    """Drawn windows in which it fires, strongest first, of both roles."""
    silent: tuple[Example, ...] = ()
    """Random windows in which it does not."""
    explanations: tuple[Mapping[str, Any], ...] = ()
    """Those that stand and have a text: `explanation`, `explainer`, `text`."""
    raised: tuple[Token, ...] = ()
    """Output tokens that it makes likelier, first the most."""
    lowered: tuple[Token, ...] = ()

    @property
    def peak(self) -> float:
        """Its largest activation, of all or of those drawn."""
        shown = self.top[0].peak if self.top else 0.0
        return max(float(self.counted.get("max") or 0.0), shown)

    @property
    def density(self) -> float | None:
        """Share of the tokens on which it fires; None if it was not counted."""
        held = self.counted.get("density")
        return None if held is None else float(held)

    @property
    def bars(self) -> list[tuple[float, float, int]]:
        """Histogram of its activations: low end, high end, count."""
        return [(b["low"], b["high"], b["count"]) for b in self.counted.get("histogram") or ()]

    def groups(self, *, with_top: bool = False) -> list[Group]:
        """Return the drawn windows by quantile, those of `top` only if asked for."""
        shown = set() if with_top else {self._where(example) for example in self.top}
        found: dict[int, list[Example]] = {}
        whole: dict[tuple[str, int], int] = {}
        for example in self.active:
            quantile = example.quantile or 1
            whole[example.role, quantile] = example.population or 0
        for example in self.active:
            if self._where(example) not in shown:
                found.setdefault(example.quantile or 1, []).append(example)
        total = sum(whole.values())
        return [
            Group(
                quantile,
                tuple(held),
                sum(n for (_, q), n in whole.items() if q == quantile) / total if total else None,
            )
            for quantile, held in sorted(found.items())
        ]

    @staticmethod
    def _where(example: Example) -> object:
        return example.start if example.start is not None else (example.role, example.example)


def pages(place: Chosen, options: Export) -> Iterator[Page]:
    """Yield the pages of a hookpoint's latents in their order, a bucket of them in memory.

    Without a choice of latents it is all that have examples or explanations.

    Raises:
        ConfigError: there are examples of several samples and the settings lead to none of them,
            or output tokens are asked for and the captured model cannot be opened.
    """
    sample, texts = _sample(place, options), vocabulary(place.lake, place.capture)
    try:
        with strongest(place, options, texts) as find:
            for unit in units_of.units(place.lake, place.key["capture"], [place.name]):
                latents = place.inside(latents_of(place.lake, unit))
                if latents:
                    yield from _of_unit(place, options, unit, latents, sample, texts, find)
    finally:
        _close(options)


def _of_unit(
    place: Chosen, options: Export, unit: Unit, latents: Sequence[int], sample: str,
    texts: Vocabulary, find: Find,
) -> Iterator[Page]:  # fmt: skip
    drawn = dict(examples(place.lake, unit, sample, texts, latents=latents)) if sample else {}
    said = _explanations(place, options, latents)
    if place.latents is None:
        latents = [i for i in latents if i in drawn or i in said]
    if not latents:
        return
    span = f"{where(**place.key)} AND latent >= {latents[0]} AND latent <= {latents[-1]}"
    counted = {row["latent"]: row for row in place.lake.rows("latents", span)}
    outputs, top = _outputs(place, options, latents, sample), find(unit, latents)
    for latent in latents:
        found = outputs.get(latent, _NO_OUTPUTS)
        yield Page(
            latent=latent,
            counted=counted.get(latent, {}),
            top=top.get(latent) or _active(drawn.get(latent, ()))[:N_TOP],
            active=_active(drawn.get(latent, ())),
            silent=tuple(e for e in drawn.get(latent, ()) if e.stratum == "random"),
            explanations=tuple(said.get(latent, ())),
            raised=found.raised,
            lowered=found.lowered,
        )


def _active(drawn: Sequence[Example]) -> tuple[Example, ...]:
    """Return the windows in which the latent fires, strongest first."""
    active = (example for example in drawn if example.is_active)
    return tuple(sorted(active, key=lambda e: (-e.peak, e.start or 0)))


def _explanations(
    place: Chosen, options: Export, latents: Sequence[int]
) -> dict[int, list[Mapping[str, Any]]]:
    key = f"{where(**place.key)} AND latent >= {latents[0]} AND latent <= {latents[-1]}"
    found: dict[int, list[Mapping[str, Any]]] = {}
    with place.lake.connect(explanations=key) as con:
        rows = queries.load("bridges/standing").table(
            con, **place.key, explainer=options.explainer, latents=list(latents)
        )
    for row in rows.to_pylist():
        if row["text"]:
            found.setdefault(row["latent"], []).append(row)
    return found


def _outputs(
    place: Chosen, options: Export, latents: Sequence[int], sample: str
) -> dict[int, _Outputs]:
    """Return what latents do to the output, by the captured model; nothing if not asked for."""
    if not options.n_logits:
        return {}
    try:
        from lakeinterp.subject.opening import open_subject

        bench = Bench(
            lake=place.lake, config=options.config, sample=sample,
            capture=place.key["capture"], hookpoint=place.name,
        )  # fmt: skip
        found = open_subject(bench).output_logits(list(latents), options.n_logits)
    except ImportError as exc:
        raise ConfigError(
            f"output tokens need {exc.name}, which is not installed: pip install "
            "'lakeinterp[capture]', or --n-logits 0 to do without them"
        ) from exc
    except ConfigError as exc:
        raise ConfigError(f"{exc}; --n-logits 0 does without output tokens") from exc
    return {
        latent: _Outputs(
            tuple(Token(token.text, token.value) for token in one.raised),
            tuple(Token(token.text, token.value) for token in one.lowered),
        )
        for latent, one in zip(latents, found, strict=True)
    }


def _close(options: Export) -> None:
    if options.n_logits:
        from lakeinterp import subject

        subject.close()


def _sample(place: Chosen, options: Export) -> str:
    """Return the sample whose windows are shown, empty if there are none."""
    with place.lake.connect(examples=where(**place.key)) as con:
        rows = queries.load("bridges/samples").run(con, **place.key).fetchall()
    held = [str(sample) for sample, _ in rows]
    wanted = sample_id(place.lake, place.key["capture"], options.config.sampling)
    if wanted in held:
        return wanted
    if len(held) > 1:
        raise ConfigError(
            f"{place.name} has examples of the samples {', '.join(held)}: give the settings that "
            "one of them was drawn with (--set sampling.…)"
        )
    return held[0] if held else ""
