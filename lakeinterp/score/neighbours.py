"""Texts in which a neighbour of a latent fires and the latent does not, marked at the neighbour.

The marks of a right version and of its wrong one are brought into line: one run of tokens in
either, equally long, at the same place of a part of the window that is equally long. Which of the
two is right cannot be told from how the marks look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakeinterp.lake import queries, where
from lakeinterp.prompts import highlight
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakeinterp.lake.bench import Bench
    from lakeinterp.terms import Example

MIN_SHOWN = (1, 2)
"""At least this part of a window is shown, as a fraction."""
_MORE_SHOWN = ((3, 4), (5, 8), MIN_SHOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Marked tokens side by side, the strongest among them."""

    first: int
    n: int
    peak: int
    """Position of the strongest, as `first` counted from the window's start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lined:
    """A window of the latent and one of a neighbour with the same marks."""

    right: Example
    wrong: Example
    texts: tuple[str, str]
    """Of `right` and `wrong`, on one line each, marks delimited."""


def line_up(
    active: Sequence[Example],
    hosts: Sequence[Example],
    fired: Mapping[int, Sequence[float]],
    above: float,
    seed: Sequence[int | str],
) -> list[Lined]:
    """Give each activating example a neighbour's window of its own, as far as there are any.

    Args:
        active: In the order in which they are served.
        hosts: Of the neighbours; none is used twice.
        fired: The neighbour's activation at each token, by the host's number.
        above: Tokens above this share of the peak belong to a run.
        seed: Anything that tells the latent apart.
    """
    left = list(hosts)
    found = []
    for example in active:
        run = run_at_peak(example.values, above)
        for host in left:
            other = run_at_peak(fired[host.example], above)
            draw = int(digest([*seed, example.example, host.example]), 16)
            if run and other and (texts := _texts(example, run, host, other, draw)):
                found.append(Lined(right=example, wrong=host, texts=texts))
                left.remove(host)
                break
    return found


def run_at_peak(values: Sequence[float], above: float) -> Run | None:
    """Return the run of tokens above a share of the peak that holds the peak, the first one."""
    most = max(values, default=0.0)
    if most <= 0:
        return None
    peak = list(values).index(most)
    first = last = peak
    while first > 0 and values[first - 1] > 0 and values[first - 1] >= above * most:
        first -= 1
    while last + 1 < len(values) and values[last + 1] > 0 and values[last + 1] >= above * most:
        last += 1
    return Run(first=first, n=last - first + 1, peak=peak)


def _texts(a: Example, run: Run, b: Example, other: Run, draw: int) -> tuple[str, str] | None:
    """Return both texts, None if the runs cannot stand at one place."""
    n = min(run.n, other.n)
    starts = [_trimmed(run, n, draw), _trimmed(other, n, draw)]
    pieces = [a.pieces, b.pieces]
    if any(not "".join(p[s : s + n]) for p, s in zip(pieces, starts, strict=True)):
        return None
    width = min(map(len, pieces))
    for part, whole in _MORE_SHOWN:
        n_shown = width * part // whole
        places = [
            place
            for place in range(n_shown - n + 1)
            if all(
                0 <= start - place <= len(p) - n_shown
                for p, start in zip(pieces, starts, strict=True)
            )
        ]
        if places:
            place = places[draw % len(places)]
            marked = [place <= i < place + n for i in range(n_shown)]
            first, second = (
                highlight(p[start - place : start - place + n_shown], marked)
                for p, start in zip(pieces, starts, strict=True)
            )
            return first, second
    return None


def _trimmed(run: Run, n: int, draw: int) -> int:
    """Return the first token of a part of a run, `n` long and with the peak in it."""
    lowest = max(run.first, run.peak - n + 1)
    highest = min(run.peak, run.first + run.n - n)
    return lowest + draw % (highest - lowest + 1)


def values_of_neighbours(bench: Bench) -> dict[tuple[int, int], tuple[float, ...]]:
    """Read the activations of the neighbours in the windows that were drawn for them.

    They are not stored with the examples, which hold the latent's own. One query reads them for
    all of the bench's latents.

    Returns:
        By latent and number of the example: the neighbour's activation at each token.
    """
    place = where(capture=bench.capture, hookpoint=bench.hookpoint)
    with bench.lake.connect(examples=place, activations=place) as con:
        found = queries.load("score/neighbour_values").run(
            con,
            capture=bench.capture,
            hookpoint=bench.hookpoint,
            sample=bench.sample,
            latents=list(bench.latents),
        )
        return {
            (latent, example): tuple(values)
            for latent, example, values in found.fetchall()
            if any(values)
        }
