"""Bodies of Neuronpedia's upload call (`POST /api/feature/upload-batch`), as files.

Nothing is sent. A body holds at most 128 latents, each with a window or more; texts, windows and
lists of output tokens are cut to what the call accepts, and what was cut or left out is counted.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lakeinterp.bridges.base import Exported
from lakeinterp.bridges.chosen import choose
from lakeinterp.bridges.folders import whole, write_json
from lakeinterp.bridges.neuronpedia.naming import sources
from lakeinterp.bridges.pages import pages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lakeinterp.bridges.base import Export, Progress
    from lakeinterp.bridges.neuronpedia.naming import Source
    from lakeinterp.bridges.pages import Page, Token
    from lakeinterp.lake import Lake
    from lakeinterp.terms import Example

N_FEATURES, N_LETTERS, N_TOKENS, N_LOGITS = 128, 512, 1024, 20
"""What one call accepts: latents, letters of an explanation, tokens of a window, output tokens."""


def export_uploads(lake: Lake, options: Export, *, progress: Progress | None = None) -> Exported:
    """Write `SOURCE/batch-00000.json` and on for each hookpoint.

    Args:
        lake: The lake.
        options: `path` is the folder; explanations need `names.method` and
            `names.explanation_model`, which the server must know.
        progress: Called after each hookpoint.

    Raises:
        NotFound: no such capture or hookpoint.
        ConfigError: the folder is not empty, a name is missing, or the model cannot be opened.
        StorageError: the disk refuses.
    """
    places = choose(lake, options)
    named = sources(places, options)
    capture = str(places[0].capture["capture"])
    counts: Counter[str] = Counter()
    about = {"format": "neuronpedia-upload", "capture": capture}
    with whole(options.path, overwrite=options.overwrite, about=about) as folder:
        for done, (place, source) in enumerate(zip(places, named, strict=True), start=1):
            _write(pages(place, options), source, options, folder / source.id, counts)
            if progress:
                progress(done=done, total=len(places))
    names = tuple(place.name for place in places)
    said = tuple(_lines(counts, named, options))
    return Exported(capture, names, counts["windows"], 0, counts["files"], said)


def _write(
    found: Iterator[Page], source: Source, options: Export, folder: Path, counts: Counter[str]
) -> None:
    body: list[dict[str, Any]] = []
    for page in found:
        if not page.top:
            counts["without windows"] += 1
            continue
        body.append(_feature(page, options, counts))
        if len(body) == N_FEATURES:
            _put(body, source, folder, counts)
            body = []
    if body:
        _put(body, source, folder, counts)


def _put(body: list[dict[str, Any]], source: Source, folder: Path, counts: Counter[str]) -> None:
    number = len(list(folder.glob("*.json")))
    value = {"modelId": source.model, "source": source.id, "features": body}
    write_json(folder / f"batch-{number:05d}.json", value, indent=None)
    counts["files"] += 1
    counts["features"] += len(body)


def _feature(page: Page, options: Export, counts: Counter[str]) -> dict[str, Any]:
    windows = [_window(example, page.peak, 0.0, None, counts) for example in page.top]
    for group in page.groups():
        windows += [
            _window(example, group.high, group.low, group.share, counts)
            for example in group.examples
        ]
    counts["windows"] += len(windows)
    return {
        "index": page.latent,
        "density": page.density or 0.0,
        "topLogits": _logits(page.raised),
        "bottomLogits": _logits(page.lowered),
        "explanations": _explanations(page, options, counts),
        "activations": windows,
    }


def _window(
    example: Example, high: float, low: float, share: float | None, counts: Counter[str]
) -> dict[str, Any]:
    first, stop = 0, len(example.tokens)
    if stop > N_TOKENS:
        counts["windows cut"] += 1
        first = min(max(0, (example.peak_offset or 0) - N_TOKENS // 2), stop - N_TOKENS)
        stop = first + N_TOKENS
    found: dict[str, Any] = {
        "tokens": list(example.pieces[first:stop]),
        "values": list(example.values[first:stop]),
    }
    if share is not None:
        found |= {"quantileMin": low, "quantileMax": high, "quantileFraction": share}
    return found


def _logits(tokens: Sequence[Token]) -> list[dict[str, Any]]:
    return [{"token": token.text, "value": token.value} for token in tokens[:N_LOGITS]]


def _explanations(page: Page, options: Export, counts: Counter[str]) -> list[dict[str, str]]:
    method, model = options.names.method, options.names.explanation_model
    if method is None or model is None:
        counts["explanations left out"] += len(page.explanations)
        return []
    found = []
    for row in page.explanations:
        text = row["text"]
        if len(text) > N_LETTERS:
            counts["explanations cut"] += 1
            text = f"{text[: N_LETTERS - 1]}…"
        found.append({"text": text, "methodName": method, "modelName": model})
    counts["explanations"] += len(found)
    return found


def _lines(counts: Counter[str], named: Sequence[Source], options: Export) -> Iterator[str]:
    yield (
        f"wrote {counts['files']:,} bodies with {counts['features']:,} latents, "
        f"{counts['windows']:,} windows and {counts['explanations']:,} explanations for "
        f"{', '.join(s.id for s in named)} of {named[0].model} to {options.path}; nothing was sent"
    )
    if n := counts["explanations left out"]:
        yield (
            f"left out {n:,} explanations: give --explanation-method and --explanation-model, "
            "names that the server knows"
        )
    if n := counts["without windows"]:
        yield f"left out {n:,} latents without windows, which the call refuses"
    if n := counts["explanations cut"]:
        yield f"cut {n:,} explanations to {N_LETTERS} letters"
    if n := counts["windows cut"]:
        yield f"cut {n:,} windows to {N_TOKENS:,} tokens around their peak"
