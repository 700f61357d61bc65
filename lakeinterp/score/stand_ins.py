"""Texts in which a latent is silent, marked as an activating text is: wrong versions of an item.

Every wrong version takes the marks of one activating text, its donor, place for place: over all
items right and wrong ones have the same numbers of marks, lengths of runs and positions, so that
none of these tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakeinterp.prompts import highlight, marks
from lakeinterp.rules import keys_of
from lakeinterp.terms import Example, digest

Seed = Sequence[int | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """A silent text under the marks of an activating one."""

    donor: Example
    host: Example
    marked: tuple[bool, ...]
    """Whether each token is marked, in the donor and in the host; shape [tokens]."""

    def text(self, *, is_right: bool) -> str:
        """Return the donor or the host on one line, marks delimited."""
        shown = self.donor if is_right else self.host
        return highlight(shown.pieces, self.marked)


def stand_ins(
    donors: Sequence[Example], hosts: Sequence[Example], above: float, seed: Seed
) -> list[StandIn]:
    """Give each donor a silent text of its own, for as many donors as there are texts for.

    A text fits if it is as long as the donor and shows something at every marked token. Of those
    that fit the one is taken whose marked tokens are most often of the donor's kinds
    (`lakeinterp.rules.CLASSES`); among equals `seed` and the two examples decide.

    Args:
        donors: Activating, in the order in which they are served.
        hosts: Silent; none is used twice.
        above: Tokens above this share of the donor's peak are marked.
        seed: Anything that tells the latent apart.
    """
    left = {host.example: host for host in hosts}
    kinds = {n: [keys_of("class", piece) for piece in h.pieces] for n, h in left.items()}
    found = []
    for donor in donors:
        marked = tuple(marks(donor, above))
        places = [i for i, mark in enumerate(marked) if mark]
        wanted = [keys_of("class", donor.pieces[i]) for i in places]
        fitting = [
            (-sum(kinds[n][i] == kind for i, kind in zip(places, wanted, strict=True)), n)
            for n, host in left.items()
            if len(host.pieces) == len(donor.pieces) and all(host.pieces[i] for i in places)
        ]
        if places and fitting:
            chosen = min(fitting, key=lambda at: (at[0], digest([*seed, donor.example, at[1]])))[1]
            found.append(StandIn(donor=donor, host=left.pop(chosen), marked=marked))
    return found
