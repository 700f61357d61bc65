"""What every explainer is, and the loop that writes a unit's `explanations` rows.

Reads `examples` of the explain role and `latents`; writes `explanations`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from lakeinterp import registry, subject, telemetry
from lakeinterp.chat.turns import at_turn, turned
from lakeinterp.errors import ConfigError, Deferred, SkipUnit, TooFewExamples
from lakeinterp.explain.evidence import Evidence, Frequency
from lakeinterp.lake import Bench, queries, units, where
from lakeinterp.terms import WAITING, Explained, LatentId, digest, json_text, now
from lakeinterp.work import in_parallel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from lakeinterp.chat.types import Chat, RouteName
    from lakeinterp.config import Config, ExplainConfig, RouteConfig
    from lakeinterp.lake import Lake, Vocabulary
    from lakeinterp.terms import Example, Status, Unit

FLUSH_LATENTS = 128
"""Explanations written in one commit; a kill loses at most these (and no paid reply)."""


class Explainer(Protocol):
    """Writes one explanation from one latent's evidence; to be inherited from."""

    name: str
    """In the registry, and in the `explainer` column."""
    needs_chat: bool
    """Whether it asks a language model."""
    routes: tuple[RouteName, ...] = ("explainer",)
    """Which language models it asks, if it asks any."""
    needs_examples: bool = True
    """False if it also explains a latent of which no window was drawn."""
    takes_texts: bool = False
    """Whether its texts come from elsewhere: a file, or other explanations in the lake."""
    tried_again: tuple[str, ...] = ()
    """Statuses that a rerun tries again, since what was missing may be there by then."""
    settings: str
    """Digest of exactly the settings that matter to it, and of its prompts."""
    prompt: str | None
    """Digest of its prompts; None if it has none."""

    def __init__(self, config: ExplainConfig) -> None:
        """Take the settings; loads the prompts."""

    def other_settings(self, config: Config) -> list[Any]:  # noqa: ARG002 - for those that need it
        """Return what else decides an explanation: settings that are not of `explain`."""
        return []

    def look(self, bench: Bench) -> None:
        """Find what `taken` goes by, before it is known which latents are to be explained."""

    def taken(self, latent: int) -> str | None:  # noqa: ARG002 - for those that take from the lake
        """Return the id of the explanation that a latent's is made of; another makes another."""
        return None

    def prepare(self, bench: Bench) -> None:
        """Get ready for a unit, before its first latent; most explainers need nothing."""

    async def explain(self, evidence: Evidence, chat: Chat | None) -> Explained:
        """Explain one latent.

        Raises:
            SkipUnit: this latent cannot be explained; the loop writes a row with its status.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """All explanations made the same way: what their ids have in common."""

    explainer: str
    settings: str
    """Digest of the explainer's settings and of the models that are asked."""
    prompt: str | None
    sample: str

    def explanation(self, latent: LatentId, taken: str | None = None) -> str:
        """Return the id of this series' explanation of a latent, made of the one it is taken from.

        Args:
            latent: Which one.
            taken: Id of the explanation that this one is made of, if there is one.
        """
        place = [latent.capture, latent.hookpoint, latent.latent]
        source = [] if taken is None else [taken]
        return digest([*place, self.explainer, self.settings, self.prompt, self.sample, *source])


def load_explainer(config: ExplainConfig) -> Explainer:
    """Return the explainer that the settings name.

    Raises:
        NotFound: no explainer has this name; the message lists the known ones.
    """
    explainer: Explainer = registry.resolve("explainer", config.explainer)(config)
    return explainer


def settings_of(explainer: Explainer, config: Config) -> str:
    """Return the digest of everything but the sample that explanations depend on.

    A model that is to be served counts by its name, whether it is served by now or not.
    """
    if not explainer.needs_chat:
        return digest([explainer.settings, [], *explainer.other_settings(config)])
    from lakeinterp.chat.vllm import named

    config = config.model_copy(update={"chat": named(config.chat)})
    asked = [_models(config.chat.explainer), *turned(config.explain.turn)]
    return digest([explainer.settings, *asked, *explainer.other_settings(config)])


def series_of(explainer: Explainer, config: Config, sample: str) -> Series:
    """Return what identifies the explanations that these settings and this sample lead to."""
    return Series(
        explainer=explainer.name,
        settings=settings_of(explainer, config),
        prompt=explainer.prompt,
        sample=sample,
    )


@telemetry.traced("explain unit")
async def explain_unit(
    lake: Lake,
    unit: Unit,
    config: Config,
    chat: Chat | None,
    *,
    run: str,
    vocabulary: Vocabulary | None = None,
) -> Counter[str]:
    """Explain the selected latents of a unit that have no finished explanation yet.

    Args:
        lake: Holds the unit's `examples` and the hookpoint's `latents`.
        unit: Which latents.
        config: `sampling` chooses latents and examples, `explain` the explainer.
        chat: Asked by explainers that need a language model; None for those that need none.
        run: Written to the rows.
        vocabulary: Of the capture's tokenizer, if at hand; read from the lake otherwise.

    Returns:
        Rows written, by status, and latents that wait for a batch file; empty if there was
        nothing to do.

    Raises:
        ConfigError: the explainer needs a language model and `chat` is None.
        LakeError: examples of some of these latents are still to be drawn.
    """
    explainer = load_explainer(config.explain)
    _require_chat(explainer, chat)
    series = series_of(explainer, config, units.sample_id(lake, unit.capture, config.sampling))
    selected = units.selected_latents(lake, unit, config.sampling)
    if not selected:
        return Counter()
    scope = {"capture": unit.capture, "hookpoint": unit.hookpoint}
    bench = Bench(lake=lake, config=config, sample=series.sample, latents=tuple(selected), **scope)
    wanted = _wanted(bench, unit, explainer, series)
    if not wanted:
        return Counter()
    units.require_examples(lake, unit, series.sample, config.sampling, selected)
    vocabulary = vocabulary or lake.vocabulary(lake.capture(unit.capture)["tokenizer"])
    explainer.prepare(replace(bench, latents=tuple(wanted)))
    asked = at_turn(chat, config.explain.turn)
    work = partial(_row, explainer=explainer, series=series, chat=asked, run=run)
    limit = 2 * config.chat.concurrency if explainer.needs_chat else 1
    evidence = _evidence(lake, unit, series, vocabulary, wanted)
    return await _written(lake, scope, in_parallel(evidence, work, limit=limit))


async def _written(
    lake: Lake, scope: dict[str, str], found: AsyncIterator[dict[str, Any] | None]
) -> Counter[str]:
    """Write rows as they come and return how many by status; None stands for one that waits."""
    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    async for row in found:
        if row is None:
            counts[WAITING] += 1
            continue
        counts[row["status"]] += 1
        rows.append(row)
        if len(rows) >= FLUSH_LATENTS:
            lake.upsert("explanations", rows, scope=scope, spans=("latent",))
            rows = []
    lake.upsert("explanations", rows, scope=scope, spans=("latent",))
    return counts


async def explain(
    lake: Lake,
    config: Config,
    chat: Chat | None,
    *,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    run: str,
    progress: Callable[[Unit, Counter[str]], None] | None = None,
) -> Counter[str]:
    """Explain every unit of a capture; see `explain_unit`.

    Args:
        lake: The lake.
        config: The settings.
        chat: For explainers that need a language model.
        capture: Name; None takes the only one there is.
        hookpoints: Names; empty takes all.
        run: Written to the rows.
        progress: Called after each unit with the rows it wrote, by status.

    Returns:
        Rows written, by status.
    """

    async def work(unit: Unit, vocabulary: Vocabulary) -> Counter[str]:
        return await explain_unit(lake, unit, config, chat, run=run, vocabulary=vocabulary)

    try:
        _, total = await units.over_units(lake, capture, hookpoints, work, progress)
    finally:
        subject.close()
    return total


def _require_chat(explainer: Explainer, chat: Chat | None) -> None:
    if explainer.needs_chat and chat is None:
        raise ConfigError(
            f"explain.explainer: {explainer.name!r} asks a language model: set chat.explainer, "
            "or use the pattern explainer, which needs none"
        )


def _wanted(bench: Bench, unit: Unit, explainer: Explainer, series: Series) -> list[int]:
    """Return the bench's latents whose explanation, known by its id, is not finished, in order."""
    explainer.look(bench)
    ids = {i: series.explanation(_id(unit, i), explainer.taken(i)) for i in bench.latents}
    with bench.lake.connect(explanations=_place(unit)) as con:
        rows = queries.load("explain/finished").run(
            con,
            capture=unit.capture,
            hookpoint=unit.hookpoint,
            explainer=series.explainer,
            settings=series.settings,
            sample=series.sample,
            transient=[*bench.config.chat.tried_again, *explainer.tried_again],
        )
        finished = {explanation for (explanation,) in rows.fetchall()}
    return [latent for latent, explanation in ids.items() if explanation not in finished]


def _evidence(
    lake: Lake, unit: Unit, series: Series, vocabulary: Vocabulary, wanted: Sequence[int]
) -> Iterator[Evidence]:
    """Yield the evidence of every wanted latent in their order, of those without examples too."""
    frequency = _frequencies(lake, _place(unit), wanted)
    drawn = units.examples(lake, unit, series.sample, vocabulary, "explain", wanted)
    latent, examples = next(drawn, _NONE)
    for one in wanted:
        is_drawn = one == latent
        yield Evidence(
            latent=_id(unit, one),
            examples=examples if is_drawn else (),
            frequency=frequency.get(one),
        )
        if is_drawn:
            latent, examples = next(drawn, _NONE)


_NONE: tuple[int | None, tuple[Example, ...]] = (None, ())


def bare(bench: Bench) -> list[Evidence]:
    """Return what is known of a bench's latents beside their examples, in their order."""
    place = {"capture": bench.capture, "hookpoint": bench.hookpoint}
    frequency = _frequencies(bench.lake, where(**place), bench.latents)
    return [
        Evidence(latent=LatentId(**place, latent=i), examples=(), frequency=frequency.get(i))
        for i in bench.latents
    ]


def _frequencies(lake: Lake, place: str, wanted: Sequence[int]) -> dict[int, Frequency]:
    inside = f"{place} AND latent >= {min(wanted)} AND latent <= {max(wanted)}"
    return {
        row["latent"]: Frequency(
            status=row["status"],
            n_windows=row["n_windows"],
            n_activations=row["n_activations"],
            density=row["density"],
        )
        for row in lake.rows("latents", inside)
    }


async def _row(
    evidence: Evidence, *, explainer: Explainer, series: Series, chat: Chat | None, run: str
) -> dict[str, Any] | None:
    """Explain one latent and return its `explanations` row; None if a reply is to come later."""
    try:
        if explainer.needs_examples and not evidence.activating:
            raise TooFewExamples(0, 1)
        explained = await explainer.explain(evidence, chat)
    except Deferred:
        return None
    except SkipUnit as skip:
        status = cast("Status", skip.status)
        explained = Explained(text=None, status=status, reason=_why(evidence, skip))
    place = evidence.latent
    return {
        "capture": place.capture,
        "hookpoint": place.hookpoint,
        "latent": place.latent,
        "explanation": series.explanation(place, explainer.taken(place.latent)),
        "explainer": series.explainer,
        "settings": series.settings,
        "prompt": series.prompt,
        "sample": series.sample,
        "text": explained.text,
        "status": explained.status,
        "reason": explained.reason,
        "detail": json_text(explained.detail),
        "reply_keys": list(explained.reply_keys),
        "run": run,
        "created_at": now(),
    }


def _why(evidence: Evidence, skip: SkipUnit) -> str:
    found = evidence.frequency
    if found is None or not isinstance(skip, TooFewExamples) or skip.kind != "activating":
        return str(skip)
    return f"{skip} in the explainer's documents ({found.status}: {found.n_windows} in all)"


def _models(route: RouteConfig) -> list[str]:
    return sorted({deployment.name for deployment in route.deployments})


def _place(unit: Unit) -> str:
    return where(capture=unit.capture, hookpoint=unit.hookpoint)


def _id(unit: Unit, latent: int) -> LatentId:
    return LatentId(capture=unit.capture, hookpoint=unit.hookpoint, latent=latent)
