"""What a model would rather have put where a word of the prompt stands.

Servers such as vLLM give the likeliest tokens at every token of a prompt. Of these only the ones
at the gaps of the last message are kept: a prompt has many hundreds of others. Tokens are decoded
one by one by the server, which loses spaces with some tokenizers, so that places are compared
without any white space.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from lakeinterp.chat.types import wellformed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakeinterp.chat.types import Request

Gaps = tuple[tuple[tuple[str, float], ...], ...]
_SPACE = re.compile(r"[\sĠ▁Ċĉ]+")


def gaps_of(found: Sequence[Mapping[str, Any] | None] | None, request: Request) -> Gaps | None:
    """Return the likeliest tokens at each gap of a request's last message, in their order.

    Args:
        found: For each token of the prompt what stands there and what is likeliest, by token id,
            what stands there first; None where nothing stands before it. As vLLM sends it.
        request: With or without a gap.

    Returns:
        None if there is no gap, or nothing was sent that fits the last message.
    """
    if not request.gap or not found:
        return None
    n = _bare(request.messages[-1].content).count(_bare(request.gap))
    entries = [list(entry.values()) if entry else [] for entry in found]
    tokens = [_bare(_text(entry[0])) if entry else "" for entry in entries]
    joined, gap = "".join(tokens), _bare(request.gap)
    places = [match.start() for match in re.finditer(re.escape(gap), joined)][-n:] if n else []
    if len(places) < n:
        return None
    starts = [0, *accumulate(map(len, tokens))]
    gaps = []
    for place in places:
        number = bisect_right(starts, place) - 1
        before = tokens[number][: place - starts[number]]
        gaps.append(_likeliest(entries[number], before))
    return tuple(gaps)


def _likeliest(entry: Sequence[Mapping[str, Any]], before: str) -> tuple[tuple[str, float], ...]:
    """Return tokens and log-probabilities, likeliest first, without what stands before the gap."""
    read = [(_text(token), float(token["logprob"])) for token in entry]
    kept = {text.strip()[len(before) :]: p for text, p in read if text.strip().startswith(before)}
    return tuple(sorted(kept.items(), key=lambda at: (-at[1], at[0])))


def _text(token: Mapping[str, Any]) -> str:
    return wellformed(str(token.get("decoded_token") or ""))


def _bare(text: str) -> str:
    """Return a text without white space, also as tokenizers write it."""
    return _SPACE.sub("", text)
