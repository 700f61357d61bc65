"""Doing again what is out of date, the most worth first, within a budget.

What is redone keeps the rows it replaces: another sample, other settings or another turn of asking
make rows of their own, and reports show the newest. Replies that the lake has are never bought
again, so what did not change costs nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakeinterp import pipeline
from lakeinterp.errors import ConfigError, LakeError
from lakeinterp.lake import open_lake, units
from lakeinterp.rescore.cost import Cost, costs, past
from lakeinterp.rescore.nightly import refresh
from lakeinterp.rescore.reckoning import reckoned
from lakeinterp.rescore.stale import at_turns, grown, stale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from lakeinterp.chat import Chat, ChatStats
    from lakeinterp.chat.ledger import Spent
    from lakeinterp.config import Config
    from lakeinterp.config.rescoring import RescoreConfig
    from lakeinterp.lake import Lake
    from lakeinterp.pipeline import Asked
    from lakeinterp.rescore.nightly import Refreshed
    from lakeinterp.rescore.stale import Stale, Staleness
    from lakeinterp.terms import Unit

    Work = tuple[str, int, int, int]
    """Hookpoint, sequences, level and turn of the explainer: latents that can go together."""

_FIRST = 8
"""Latents of a first round under a budget when nothing tells what a latent costs, not even the
prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """What a re-scoring did."""

    capture: str
    refreshed: Refreshed
    reasons: Counter[str]
    """What was out of date when it began, latents and scorers by reason."""
    n_done: int
    """Latents and scorers that were done again."""
    n_left: int
    """Latents and scorers still out of date; the budget ended before them."""
    explained: Counter[str] = field(default_factory=Counter)
    """Explanations written, by status."""
    judged: Counter[str] = field(default_factory=Counter)
    """Judgements written, by status."""
    spent: Cost = field(default_factory=Cost)
    """Calls that were made."""

    @property
    def n_failed(self) -> int:
        """Rows whose status is a failure of the run rather than a finding about a latent."""
        both = self.explained + self.judged
        return sum(n for status, n in both.items() if status in pipeline.FAILURES)


def rescore(
    config: Config,
    *,
    run: str,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    chat: Chat | None = None,
    progress: Callable[[str, Unit, int, int], None] | None = None,
    watch: Callable[[ChatStats], None] | None = None,
) -> Rescored:
    """Refresh what more tokens changed, then explain and score again what is out of date.

    Under a budget (`rescore.max_calls`, `max_tokens`, `max_usd`, `max_latents`) work is taken as
    far as past calls say that it fits; what is left of the budget by then is spent in the same
    way. A run that is killed is completed by the next one.

    Args:
        config: The settings; `rescore` says what counts as out of date, and the budget.
        run: Id written to the rows.
        capture: Capture id; None takes the only one there is.
        hookpoints: Only these; empty takes all.
        chat: Asked in place of the configured models.
        progress: Called after each unit with the step, the unit, and how many are done and are
            to be done.
        watch: Given the chat's counts before each step's first call.

    Raises:
        ConfigError: a model is needed and none is configured, or `rescore.max_usd` is set and the
            price of one is not known.
        NotFound: no such capture or hookpoint.
    """
    lake = open_lake(config)
    place: dict[str, Any] = {
        "capture": str(lake.capture(capture)["capture"]),
        "hookpoints": hookpoints,
    }
    # Before anything is written, and once more as the refresh may choose other latents.
    if chat is None:
        _check(config, stale(lake, config, **place))
    refreshed = refresh(lake, config, run=run, **place, progress=progress)
    found = stale(lake, config, **place)
    if chat is None:
        _check(config, found)
    return _redone(_Work(config, run, chat, progress, watch), lake, refreshed, found, place)


def _check(config: Config, found: Staleness) -> None:
    """Find what is missing for what is to be done: a model, or the price that a budget needs."""
    if not found.rows:
        return
    routes = pipeline.check_chat(config)
    if config.rescore.max_usd is None:
        return
    from lakeinterp.chat.backend import usual_price

    for route in sorted(routes):
        if usual_price(config.chat, route).state == "unknown":
            raise ConfigError(
                f"rescore.max_usd is set and the price of the {route}'s model is not known: give "
                "its deployment input_cost_per_token and output_cost_per_token, or use "
                "rescore.max_tokens"
            )


def _redone(
    work: _Work, lake: Lake, refreshed: Refreshed, found: Staleness, place: Mapping[str, Any]
) -> Rescored:
    """Redo what is found, and what is found after it, as far as the budget goes."""
    reasons, tried = found.reasons, set[tuple[str, int, str]]()
    while taken := _taken(lake, found, tried, work):
        tried |= {_key(row) for row in taken}
        work.do(lake, found, taken)
        found = stale(lake, work.config, **place)
    return Rescored(
        capture=found.capture,
        refreshed=refreshed,
        reasons=reasons,
        n_done=len(tried),
        n_left=len(found.rows),
        explained=work.explained,
        judged=work.judged,
        spent=work.spent,
    )


def within_budget(lake: Lake, config: Config, spent: Cost | None = None) -> Config:
    """Return the settings under which calls cannot exceed the budget of a re-scoring.

    What the lake's calls came to so far, and `rescore.max_usd` and `max_tokens` beyond it, are the
    chat's own limits then; a stricter one of these stays. A re-scoring that begins again under
    these settings has what is left, not the whole once more.

    Args:
        lake: The lake.
        config: The settings.
        spent: Of the budget by now.
    """
    asked, chat, used = config.rescore, config.chat, spent or Cost()
    if asked.max_usd is None and asked.max_tokens is None:
        return config
    before = _spent(lake, config)
    update: dict[str, Any] = {}
    for name, most, taken, total in (
        ("budget_usd", asked.max_usd, used.usd, before.usd),
        ("budget_tokens", asked.max_tokens, used.n_tokens, before.tokens),
    ):
        if most is not None:
            held = getattr(chat, name)
            mine = total + max(0, most - taken)
            update[name] = mine if held is None else min(held, mine)
    return config.model_copy(update={"chat": chat.model_copy(update=update)})


def _spent(lake: Lake, config: Config) -> Spent:
    """Return what the chat's budget counts as spent: what killed runs had set aside too."""
    from lakeinterp.chat.ledger import FILE, Ledger
    from lakeinterp.chat.store import ReplyStore, folder_of

    store = ReplyStore(lake, folder_of(lake, config.chat))
    try:
        ledger = Ledger(store.folder / FILE, spent=store.spent())
    finally:
        store.close()
    booked = ledger.spent
    ledger.close()
    return booked


def affordable(
    rows: Iterable[Stale], known: Mapping[str | None, Mapping[str, Any]], left: RescoreConfig
) -> list[Stale]:
    """Return the rows that a budget is likely to be enough for, in their order.

    A latent is taken with all its rows or not at all; one that does not fit ends the choice, so
    that a cheap one does not come before a more important one for ever.

    Args:
        rows: Of `stale`, the most worth first.
        known: As `cost.past` returns it.
        left: Its limits are what may still be spent.
    """
    latents: dict[tuple[str, int], list[Stale]] = defaultdict(list)
    for row in rows:
        latents[row.hookpoint, row.latent].append(row)
    taken: list[Stale] = []
    total = Cost()
    is_priced = _is_priced(left)
    for n, mine in enumerate(latents.values(), start=1):
        total += costs(mine, known)
        if is_priced and total.n_untold and n > _FIRST:
            break
        if left.max_latents is not None and n > left.max_latents:
            break
        if not _fits(total, left):
            break
        taken += mine
    return taken


def _is_priced(budget: RescoreConfig) -> bool:
    return (budget.max_calls, budget.max_tokens, budget.max_usd) != (None, None, None)


def _fits(cost: Cost, left: RescoreConfig) -> bool:
    pairs = [
        (cost.n_calls, left.max_calls),
        (cost.n_tokens, left.max_tokens),
        (cost.usd, left.max_usd),
    ]
    return all(limit is None or amount <= limit for amount, limit in pairs)


def _taken(
    lake: Lake, found: Staleness, tried: set[tuple[str, int, str]], work: _Work
) -> list[Stale]:
    """Return what is done next: nothing that was tried before, and no more than is left."""
    rows = [row for row in found.rows if _key(row) not in tried]
    if not rows:
        return []
    asked, spent = work.config.rescore, work.spent
    n_latents = len({(hookpoint, latent) for hookpoint, latent, _ in tried})
    limits = {
        "max_calls": (asked.max_calls, spent.n_calls),
        "max_tokens": (asked.max_tokens, spent.n_tokens),
        "max_usd": (asked.max_usd, spent.usd),
        "max_latents": (asked.max_latents, n_latents),
    }
    left = {name: None if most is None else most - used for name, (most, used) in limits.items()}
    for name, rest in _chats_left(lake, work.config).items():
        if (mine := left[name]) is not None:
            left[name] = min(mine, rest)
    known = past(lake, found.capture, rows[0].explainer)
    if _is_priced(asked):
        known = reckoned(lake, work.config, found, known)
    return affordable(rows, known, asked.model_copy(update=left))


def _chats_left(lake: Lake, config: Config) -> dict[str, float]:
    """Return what is left of the chat's own limits, beyond which every call would be stopped.

    A re-scoring that begins again under the settings of `within_budget` has no more than that.
    """
    chat = config.chat
    if chat.budget_usd is None and chat.budget_tokens is None:
        return {}
    before = _spent(lake, config)
    limits = {
        "max_usd": (chat.budget_usd, before.usd),
        "max_tokens": (chat.budget_tokens, before.tokens),
    }
    return {name: most - used for name, (most, used) in limits.items() if most is not None}


def _key(row: Stale) -> tuple[str, int, str]:
    return row.hookpoint, row.latent, row.scorer


class _Work:
    """Draws, explains and scores chosen latents, and adds up what that came to."""

    def __init__(
        self,
        config: Config,
        run: str,
        chat: Chat | None,
        progress: Callable[[str, Unit, int, int], None] | None,
        watch: Callable[[ChatStats], None] | None,
    ) -> None:
        self.config, self._run, self._chat = config, run, chat
        self._progress, self._watch = progress, watch
        self._stats: list[ChatStats] = []
        self.explained, self.judged = Counter[str](), Counter[str]()

    @property
    def spent(self) -> Cost:
        """What was spent on calls so far."""
        return Cost(
            n_calls=sum(s.n_calls for s in self._stats),
            n_tokens=sum(s.n_tokens for s in self._stats),
            usd=sum(s.cost_usd for s in self._stats),
            n_free=sum(s.cost_states["free"] for s in self._stats),
            n_unknown=sum(s.cost_states["unknown"] for s in self._stats),
        )

    def do(self, lake: Lake, found: Staleness, rows: Sequence[Stale]) -> None:
        """Redo some rows: what is explained the same way goes together, then what is judged so."""
        grouped: dict[Work, list[Stale]] = defaultdict(list)
        for row in rows:
            grouped[row.hookpoint, row.n_sequences, row.level, row.explain_turn].append(row)
        with self._served() as config:
            limited = within_budget(lake, config, self.spent)
            for work, mine in grouped.items():
                ours = self._settings(limited, found, work, mine)
                self._draw(lake, ours, found.capture, work[0])
                if not all(row.is_explained for row in mine):
                    self.explained += self._step(pipeline.explain, ours, found, work[0])
            for work, mine in grouped.items():
                for (scorer, turn), some in _by_judge(mine).items():
                    ours = self._settings(limited, found, work, some)
                    scoring = ours.score.model_copy(update={"scorers": (scorer,), "turn": turn})
                    ours = ours.model_copy(update={"score": scoring})
                    self.judged += self._step(pipeline.score, ours, found, work[0])

    def _served(self) -> AbstractContextManager[Config]:
        return pipeline.served(self.config) if self._chat is None else nullcontext(self.config)

    def _settings(
        self, config: Config, found: Staleness, work: Work, rows: Iterable[Stale]
    ) -> Config:
        """Return the settings under which the latents of some rows are what is worked on."""
        _, n_sequences, level, turn = work
        update: dict[str, Any] = {
            "latents": tuple(sorted({row.latent for row in rows})),
            "where": "",
            "max_latents": None,
        }
        if n_sequences < found.captured.n_sequences:
            update["first_sequences"] = n_sequences
        sampling = grown(config.sampling, level).model_copy(update=update)
        return at_turns(config.model_copy(update={"sampling": sampling}), explain=turn)

    def _draw(self, lake: Lake, config: Config, capture: str, hookpoint: str) -> None:
        """Draw the examples that these latents lack, of a larger sample most often."""
        sample = units.sample_id(lake, capture, config.sampling)
        lacking = set()
        for unit in units.units(lake, capture, [hookpoint]):
            mine = units.selected_latents(lake, unit, config.sampling)
            try:
                units.require_examples(lake, unit, sample, config.sampling, mine)
            except LakeError:
                lacking.add(unit)
        if lacking:
            from lakeinterp.sampling import sample as draw

            place = {"capture": capture, "hookpoints": [hookpoint]}
            draw(lake, config, **place, only=lacking, progress=self._progress)  # type: ignore[arg-type]

    def _step(
        self, step: Callable[..., Asked], config: Config, found: Staleness, hookpoint: str
    ) -> Counter[str]:
        n_done, n_all = 0, len([b for b in found.captured.buckets if b.unit.hookpoint == hookpoint])

        def tell(unit: Unit, _: Counter[str]) -> None:
            nonlocal n_done
            n_done += 1
            if self._progress is not None:
                self._progress(step.__name__, unit, n_done, n_all)

        place = {"capture": found.capture, "hookpoints": [hookpoint]}
        return step(
            config, run=self._run, **place, chat=self._chat, progress=tell, watch=self._seen
        ).counts

    def _seen(self, stats: ChatStats) -> None:
        self._stats.append(stats)
        if self._watch is not None:
            self._watch(stats)


def _by_judge(rows: Iterable[Stale]) -> dict[tuple[str, int], list[Stale]]:
    found: dict[tuple[str, int], list[Stale]] = defaultdict(list)
    for row in rows:
        found[row.scorer, row.turn].append(row)
    return found
