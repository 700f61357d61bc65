"""One latent's examples for a terminal: headings with populations, text shaded by activation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from lakeinterp.lake.tables import where
from lakeinterp.lake.vocabulary import Vocabulary
from lakeinterp.report import shading, words
from lakeinterp.report.terminal import heading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from lakeinterp.lake import Lake

STRATA = ("activating", "random", "same_token", "neighbour", "similar")
"""In the order in which they are shown."""
_METHODS = {"cooccurrence": "co-occurrence", "decoder": "decoder", "encoder": "encoder"}
_N_NEAREST = 5
_N_TOKENS = 5
_PALE, _STRONG = (255, 237, 213), (234, 88, 12)
_OPEN, _CLOSE = "«", "»"
"""Around active text where there is no colour."""
_BETWEEN = re.compile(f"{_CLOSE}( ?){_OPEN}")
"""Between active tokens that follow each other: they are marked as one."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which of a latent's examples are shown."""

    role: str | None = None
    """None shows both."""
    stratum: str | None = None
    """None shows all."""
    n: int = 3
    """Examples of each role, stratum and quantile, the strongest first."""
    shows_place: bool = False
    """Whether each example's document and first token stand behind it."""


def tokens_of(lake: Lake, tokenizer: str, token_ids: Iterable[int]) -> Vocabulary:
    """Return a vocabulary that knows some tokens, read without the others.

    Args:
        lake: The lake.
        tokenizer: Digest of the tokenizer.
        token_ids: The tokens.
    """
    wanted = sorted(set(token_ids))
    if not wanted:
        return Vocabulary(tokenizer, ())
    listed = ", ".join(map(str, wanted))
    rows = lake.rows("vocabulary", f"{where(tokenizer=tokenizer)} AND token_id IN ({listed})")
    known = {row["token_id"]: row["bytes"] for row in rows}
    encoded = [known.get(i, f"<token {i}>".encode()) for i in range(wanted[-1] + 1)]
    return Vocabulary(tokenizer, tuple(encoded))


def header(hookpoint: str, latent: int, counted: Row | None, vocabulary: Vocabulary) -> list[Text]:
    """Return what is known of a latent in one or two lines.

    Args:
        hookpoint: Name.
        latent: Number.
        counted: Its row of `latents`, None if the lake has none.
        vocabulary: Knows its top tokens.
    """
    name = f"{hookpoint} latent {latent}"
    if counted is None:
        return [heading(name)]
    if not counted["n_activations"]:
        return [heading(name, words.status_name(counted["status"]))]
    lines = [
        heading(
            name,
            f"{words.status_name(counted['status'])}; fires on {words.share(counted['density'])} "
            f"of tokens, in {words.count(counted['n_windows'])} windows of "
            f"{words.count(counted['n_documents'])} documents, at most "
            f"{words.number(counted['max'])}",
        )
    ]
    top = [
        f"{_quoted(vocabulary, t['token_id'])} {words.share(t['count'] / counted['n_activations'])}"
        for t in counted["top_tokens"][:_N_TOKENS]
    ]
    return [*lines, Text(f"on {', '.join(top)}", style="dim")] if top else lines


def nearest(rows: Sequence[Row]) -> list[Text]:
    """Return the nearest latents by each method in one line each.

    Args:
        rows: Of `neighbours`, of one latent.
    """
    ordered = sorted(rows, key=lambda row: (row["method"], row["rank"]))
    return [
        Text(
            f"nearest by {_METHODS.get(method, method)}: "
            + ", ".join(
                f"{row['neighbour']} ({row['similarity']:.2f})" for row in list(group)[:_N_NEAREST]
            ),
            style="dim",
        )
        for method, group in groupby(ordered, key=lambda row: str(row["method"]))
    ]


def strongest(
    rows: Sequence[Row], vocabulary: Vocabulary, largest: float | None, n_windows: int,
    selection: Selection, *, is_coloured: bool,
) -> Iterator[RenderableType]:  # fmt: skip
    """Yield the strongest of all windows of a latent under one heading.

    Args:
        rows: Activating windows in the manner of `examples`, the strongest of each role.
        vocabulary: Knows their tokens.
        largest: The latent's largest activation, what the strongest shade stands for.
        n_windows: Windows in which the latent fires.
        selection: How they are shown; `n` is not looked at.
        is_coloured: Whether to shade; else active text stands in « ».
    """
    if rows:
        yield Text("")
        yield heading("strongest", f"{len(rows)} of {words.count(n_windows)} windows")
        ordered = sorted(rows, key=lambda row: (-row["peak"], row["start"]))
        yield from _lines(ordered, vocabulary, largest, selection, is_coloured=is_coloured)


def listing(
    rows: Sequence[Row], vocabulary: Vocabulary, largest: float | None, selection: Selection,
    *, is_coloured: bool,
) -> Iterator[RenderableType]:  # fmt: skip
    """Yield the examples, a heading before each role, stratum and quantile.

    Args:
        rows: Of `examples`, of one latent.
        vocabulary: Knows their tokens.
        largest: The latent's largest activation, what the strongest shade stands for.
        selection: Which of them.
        is_coloured: Whether to shade; else active text stands in « ».
    """
    n_quantiles = max((row["quantile"] or 0 for row in rows), default=0)
    chosen = [
        row
        for row in rows
        if selection.role in (None, row["role"]) and selection.stratum in (None, row["stratum"])
    ]
    chosen.sort(key=_place)
    for (role, stratum, quantile), group in groupby(chosen, key=_section):
        section = list(group)
        yield Text("")
        yield _title(role, stratum, quantile, n_quantiles, section)
        first = section[: selection.n]
        yield from _lines(first, vocabulary, largest, selection, is_coloured=is_coloured)


def _lines(
    rows: Sequence[Row], vocabulary: Vocabulary, largest: float | None, selection: Selection,
    *, is_coloured: bool,
) -> Iterator[RenderableType]:  # fmt: skip
    """Yield a line for each example, on a terminal a grid of them, so that long text is indented.

    A peak stands before each activating one, a dash before the others.
    """
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        shown = _text(row, vocabulary, largest, selection, is_coloured=is_coloured)
        peak = words.number(float(row["peak"])) if row["stratum"] == "activating" else "–"
        if is_coloured:
            grid.add_row(f"  {peak}", shown)
        else:
            yield Text(f"{peak:>7}  ").append_text(shown)
    if is_coloured:
        yield grid


def _section(row: Row) -> tuple[str, str, int | None]:
    return row["role"], row["stratum"], row["quantile"]


def _place(row: Row) -> tuple[object, ...]:
    return (
        row["role"],
        STRATA.index(row["stratum"]),
        row["quantile"] or 0,
        -row["peak"],
        row["example"],
    )


def _title(
    role: str, stratum: str, quantile: int | None, n_quantiles: int, section: Sequence[Row]
) -> Text:
    parts = [role, stratum.replace("_", " ")]
    parts += [f"quantile {quantile} of {n_quantiles}"] if quantile else []
    population = section[0]["population"]
    stood_for = "" if population is None else f" of {words.count(population)} windows"
    return heading(" · ".join(parts), f"{words.count(len(section))} drawn{stood_for}")


def _text(
    row: Row, vocabulary: Vocabulary, largest: float | None, selection: Selection,
    *, is_coloured: bool,
) -> Text:  # fmt: skip
    """Return an example's text on one line, with what else is known of it behind."""
    text = Text()
    found = shading.runs(vocabulary.pieces(row["tokens"]), row["values"], largest)
    for run in found:
        shown = run.text.replace("\n", "").replace("\t", "")
        if run.level and is_coloured:
            text.append(shown, style=_shade(run.level))
        elif run.level:
            # A token's leading space stays outside, as a reader would mark the word.
            word = shown.lstrip(" ") or shown
            text.append(f"{shown[: len(shown) - len(word)]}{_OPEN}{word}{_CLOSE}")
        else:
            text.append(shown)
    if not is_coloured:
        text = Text(_BETWEEN.sub(r"\1", text.plain))
    notes = []
    if row["neighbour"] is not None:
        notes.append(f"latent {row['neighbour']} fires ({row['similarity']:.2f})")
    elif row["similarity"] is not None:
        notes.append(f"similarity {row['similarity']:.2f}")
    if selection.shows_place:
        notes.append(f"document {row['document']}, token {row['start']}")
    return text.append(f"  [{'; '.join(notes)}]", style="dim") if notes else text


def _shade(level: int) -> str:
    part = (level - 1) / (shading.N_LEVELS - 1)
    pairs = zip(_PALE, _STRONG, strict=True)
    red, green, blue = (round(a + (b - a) * part) for a, b in pairs)
    return f"black on rgb({red},{green},{blue})"


def _quoted(vocabulary: Vocabulary, token_id: int) -> str:
    shown = words.visible(vocabulary.text([token_id])).replace("\n", "").replace("\t", "")
    return f"'{shown}'"


def token_ids(rows: Iterable[Mapping[str, Any]], counted: Row | None) -> set[int]:
    """Return every token id that the lines above show."""
    found = {token for row in rows for token in row["tokens"]}
    return found | {t["token_id"] for t in (counted or {}).get("top_tokens") or ()}
