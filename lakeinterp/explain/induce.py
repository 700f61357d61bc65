"""The search for the best short rule over token texts, in numpy.

Every token of every window is one item with a weight: what it stands for in the corpus. Sums of
weights over texts come from `bincount`, so that one pass over the tokens serves every candidate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lakeinterp.explain.columns import Slot
from lakeinterp.rules import AFFIX_LENGTHS, Condition, Rule, keys_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lakeinterp.explain.columns import Bools, Floats, Ints, Tokens

PENALTY = 0.01
"""What each text of a rule beyond the first costs, in F1."""
MAX_TEXTS = 6
"""Most texts that one condition names."""
MIN_DOCUMENTS = 2
"""Documents in which each text of a rule must be seen firing."""
SPAN = 8
"""Tokens before, in which a context word is looked for."""
N_REFINED = 4
"""Rules of one condition that are tried with a second one."""


_SLOTS = (
    Slot("token"),
    Slot("word"),
    Slot("class"),
    *(Slot("suffix", 0, letters) for letters in reversed(AFFIX_LENGTHS)),
    *(Slot("prefix", 0, letters) for letters in reversed(AFFIX_LENGTHS)),
    Slot("token", -1),
    Slot("word", -1),
    Slot("class", -1),
    Slot("token", 1),
    Slot("class", 1),
)
"""Of a rule of one condition."""
_SECOND = (Slot("token"), Slot("token", -1), Slot("class"), Slot("class", -1))
"""Of a rule's second condition."""


class Scored(NamedTuple):
    """A rule and how it does on the evidence."""

    score: float
    """F1 less the penalty for length."""
    rule: Rule
    fires: Bools
    """At every token; shape [tokens]."""


def best_rule(tokens: Tokens) -> Scored:
    """Return the rule with the best score found; of equals the shorter, then the earlier tried.

    First every rule of one condition: for each slot the set of findings that grows the score
    most, added one by one. Then the best of these with a second condition or a context word,
    each condition chosen anew given the other. Extensions that could not win are not tried.
    """
    fires = tokens.ids >= 0
    every = Scored(_score(tokens, fires, 1), Rule(), fires)
    found = [every, *_extensions(tokens, every, _SLOTS, -1.0), *_best_pair(tokens)]
    found += _with_context(tokens, every)
    for first in _ranked(found[1:])[:N_REFINED]:
        beat = _ranked(found)[0].score
        second = _extensions(tokens, first, _SECOND, beat)
        if _bound(tokens, first) > beat:
            second += _with_context(tokens, first)
        found += second
        for refined in _ranked(second)[:1]:
            found += _chosen_anew(tokens, refined)
    return _ranked(found)[0]


def _score(tokens: Tokens, fires: Bools, size: int) -> float:
    """Return the weighted F1 of a firing pattern, less the penalty for its length."""
    hit = float(tokens.weight[fires & tokens.active].sum())
    drawn = float(tokens.weight[fires].sum())
    return 2 * hit / (drawn + tokens.mass) - PENALTY * max(0, size - 1)


def _ranked(found: Iterable[Scored]) -> list[Scored]:
    return sorted(found, key=lambda c: (-round(c.score, 9), c.rule.size))


def _bound(tokens: Tokens, base: Scored) -> float:
    """Return the score no rule can pass that adds conditions to this one."""
    hit = float(tokens.weight[base.fires & tokens.active].sum())
    return 2 * hit / (hit + tokens.mass) - PENALTY * base.rule.size


def _extensions(tokens: Tokens, base: Scored, slots: Sequence[Slot], beat: float) -> list[Scored]:
    """Return the base rule with one more condition, the best of each slot it does not have."""
    if base.rule.conditions and _bound(tokens, base) <= beat:
        return []
    taken = {(c.test, c.at) for c in base.rule.conditions if c.within is None}
    tried = [_extended(tokens, base, s) for s in slots if (s.test, s.at) not in taken]
    return [scored for scored in tried if scored is not None]


def _chosen_anew(tokens: Tokens, refined: Scored) -> Iterator[Scored]:
    """Choose each condition anew given the others: one round of coordinate ascent."""
    conditions = refined.rule.conditions
    for i, old in enumerate(conditions):
        if old.within is None and old.test in ("token", "class"):
            rest = Rule(conditions=conditions[:i] + conditions[i + 1 :])
            fires = _fires(tokens, rest)
            base = Scored(_score(tokens, fires, rest.size), rest, fires)
            if scored := _extended(tokens, base, Slot(old.test, old.at)):
                yield scored


def _extended(tokens: Tokens, base: Scored, slot: Slot) -> Scored | None:
    """Return the base rule with the best set of findings in one slot, if there is any."""
    names, of_piece = tokens.findings(slot)
    there = tokens.at(slot.at)
    inside = base.fires & (there >= 0)
    hits = inside & tokens.active
    if not names or not hits.any():
        return None
    n = len(names)
    hit = _summed(of_piece, n, _weights(tokens, there, hits))
    drawn = _summed(of_piece, n, _weights(tokens, there, inside))
    usable = _supported(tokens, of_piece[there[hits]], tokens.document_of_token[hits], n)
    limit = 1 if slot.test == "class" else MAX_TEXTS
    chosen = _union(hit, drawn, usable, tokens.mass, base.rule.size, limit)
    if not chosen:
        return None
    condition = Condition(test=slot.test, any_of=tuple(names[k] for k in chosen), at=slot.at)
    rule = Rule(conditions=(*base.rule.conditions, condition))
    fires = base.fires & _found(of_piece, n, chosen)[there]
    return Scored(_score(tokens, fires, rule.size), rule, fires)


def _union(
    hit: Floats, drawn: Floats, usable: Ints, mass: float, size: int, limit: int
) -> list[int]:
    """Add findings one by one while the penalised F1 grows; return them in that order."""
    chosen: list[int] = []
    total_hit = total_drawn = 0.0
    best = -1.0
    left = usable
    while len(left) and len(chosen) < limit:
        scores = 2 * (total_hit + hit[left]) / (total_drawn + drawn[left] + mass)
        scores -= PENALTY * max(0, size + len(chosen))
        i = int(scores.argmax())
        if scores[i] <= best + 1e-12:
            break
        best = float(scores[i])
        k = int(left[i])
        chosen.append(k)
        total_hit += float(hit[k])
        total_drawn += float(drawn[k])
        left = np.delete(left, i)
    return chosen


def _weights(tokens: Tokens, there: Ints, mask: Bools) -> Floats:
    """Sum the weights of some tokens over the texts at a distance from them."""
    return np.bincount(there[mask], tokens.weight[mask], len(tokens.pieces)).astype(np.float64)


def _summed(of_piece: Ints, n: int, weight: Floats) -> Floats:
    """Sum weights of texts over the findings of each text."""
    total = np.zeros(n + 1)
    for column in of_piece.T:
        total += np.bincount(np.where(column >= 0, column, n), weight, n + 1)
    return total[:n]


def _supported(tokens: Tokens, findings: Ints, documents: Ints, n: int) -> Ints:
    """Return the findings that occur in `MIN_DOCUMENTS` documents or more.

    Args:
        tokens: For the number of documents.
        findings: Of each firing token, padded with -1; shape [firing, findings].
        documents: Of each firing token; shape [firing].
        n: Number of findings there are.
    """
    pairs = np.unique((findings * tokens.n_documents + documents[:, None])[findings >= 0])
    counts = np.bincount(pairs // tokens.n_documents, minlength=n)
    return np.flatnonzero(counts >= MIN_DOCUMENTS)


def _found(of_piece: Ints, n: int, chosen: Sequence[int]) -> Bools:
    """Return for every text whether it holds a chosen finding; one more False for no text."""
    wanted = np.zeros(n + 1, dtype=bool)
    wanted[list(chosen)] = True
    return np.append(wanted[of_piece].any(axis=1), False)


def _best_pair(tokens: Tokens) -> Iterator[Scored]:
    """Yield the best rule of the shape one token after one token, if there is any."""
    n, before = len(tokens.pieces), tokens.at(-1)
    inside = (before >= 0) & (tokens.ids >= 0)
    hits = inside & tokens.active
    if not hits.any():
        return
    pair = before * n + tokens.ids
    seen, number = np.unique(pair[hits], return_inverse=True)
    usable = _supported(tokens, number[:, None], tokens.document_of_token[hits], len(seen))
    if not len(usable):
        return
    hit = np.bincount(number, tokens.weight[hits])
    place = np.minimum(np.searchsorted(seen, pair[inside]), len(seen) - 1)
    same = seen[place] == pair[inside]
    drawn = np.bincount(place[same], tokens.weight[inside][same], len(seen))
    best = int(seen[usable[(hit[usable] / (drawn[usable] + tokens.mass)).argmax()]])
    here = Condition(test="token", any_of=(tokens.pieces[best % n],))
    left = Condition(test="token", any_of=(tokens.pieces[best // n],), at=-1)
    rule = Rule(conditions=(here, left))
    fires = inside & (pair == best)
    yield Scored(_score(tokens, fires, rule.size), rule, fires)


def _with_context(tokens: Tokens, base: Scored) -> Iterator[Scored]:
    """Yield the base rule with the best word among the `SPAN` tokens before, if there is any."""
    names, _ = tokens.findings(Slot("word"))
    window, place = np.nonzero(base.fires)
    active = tokens.active[window, place]
    item, word = _words_before(tokens, window, place)
    hits = active[item]
    if not hits.any():
        return
    weight, documents = tokens.weight[window, place][item], tokens.document[window[item[hits]]]
    usable = _supported(tokens, word[hits][:, None], documents, len(names))
    if not len(usable):
        return
    hit = np.bincount(word[hits], weight[hits], len(names))
    drawn = np.bincount(word, weight, len(names))
    best = int(usable[(hit[usable] / (drawn[usable] + tokens.mass)).argmax()])
    condition = Condition(test="word", any_of=(names[best],), within=SPAN)
    rule = Rule(conditions=(*base.rule.conditions, condition))
    fires = np.zeros_like(base.fires)
    chosen = item[word == best]
    fires[window[chosen], place[chosen]] = True
    yield Scored(_score(tokens, fires, rule.size), rule, fires)


def _words_before(tokens: Tokens, window: Ints, place: Ints) -> tuple[Ints, Ints]:
    """Return (item, word) once for every distinct word in the `SPAN` tokens before an item.

    Args:
        tokens: The windows.
        window: Of each item; shape [items].
        place: Of each item within its window; shape [items].
    """
    _, of_piece = tokens.findings(Slot("word"))
    reach = place[:, None] - np.arange(1, SPAN + 1)
    pieces = np.where(reach >= 0, tokens.ids[window[:, None], np.maximum(reach, 0)], -1)
    words = np.where(pieces >= 0, of_piece[pieces, 0], -1)
    words.sort(axis=1)
    first = words >= 0
    first[:, 1:] &= words[:, 1:] != words[:, :-1]
    item, column = np.nonzero(first)
    return item, words[item, column]


def _fires(tokens: Tokens, rule: Rule) -> Bools:
    """Return where a rule fires, as `Rule.fires` but for all windows at once."""
    fires = tokens.ids >= 0
    for condition in rule.conditions:
        wanted = frozenset(condition.any_of)
        texts = [not wanted.isdisjoint(keys_of(condition.test, p)) for p in tokens.pieces]
        found = np.array([*texts, False])
        places = [condition.at] if condition.within is None else range(-condition.within, 0)
        fires = fires & np.logical_or.reduce([found[tokens.at(place)] for place in places])
    return fires
