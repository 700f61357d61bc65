"""Explanations that Neuronpedia or AxBench hold, one JSON object a line, into the lake.

Neuronpedia's rows have `modelId`, `layer` (the source), `index` and `description`; AxBench's a
`concept` and the address of the latent's page as `ref`. There are no activations with them, so they
are looked at, or scored once they stand in a capture of the same coder.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from lakeinterp.bridges.base import Imported
from lakeinterp.bridges.places import Place, settle
from lakeinterp.bridges.texts import lines, storable
from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.terms import digest, json_text, now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lakeinterp.bridges.base import Import, Progress
    from lakeinterp.lake import Lake

FORMAT = "neuronpedia-explanations"
_REF = re.compile(r"([^/]+)/([^/]+)/(\d+)/?$")
_ROWS = 10_000


class _Row(NamedTuple):
    model: str
    source: str
    latent: int
    text: str
    method: str
    detail: dict[str, Any]


def import_explanations(
    lake: Lake, options: Import, *, progress: Progress | None = None
) -> Imported:
    """Read explanations; of a latent that has several all are kept, the last of a method stands.

    Args:
        lake: The lake.
        options: `path` is a `.jsonl` or `.jsonl.gz` file or a folder with such; `name` a capture,
            `hookpoints` its one hookpoint if it is not called like the source; `model` picks one
            model of several.
        progress: Called after each piece.

    Raises:
        NotFound: there is no such file.
        ConfigError: a row is no explanation, there are several models, or the capture has no such
            latents.
    """
    paths = _paths(options.path)
    widths, model, n_rows = _survey(paths, options)
    named = _named(widths, options)
    capture = options.name or f"{model}-neuronpedia"
    place = Place(format=FORMAT, capture=capture, model=model, config={"n_explanations": n_rows})
    settle(
        lake, place, {named[source]: max(n, options.n_latents or 0) for source, n in widths.items()}
    )
    done = n_new = 0
    for part in _parts(_wanted(paths, model)):
        for source, rows in groupby(sorted(part, key=lambda r: r.source), key=lambda r: r.source):
            n_new += _write(lake, capture, named[source], list(rows))
        done += len(part)
        if progress:
            progress(done=done, total=n_rows)
    names = tuple(sorted(named.values()))
    said = f"imported {n_rows:,} explanations of {', '.join(names)} as {capture}"
    if not n_new:
        said = f"imported nothing new: {capture} holds these explanations"
    return Imported(capture, names, 0, n_rows, 0, bool(n_new), (said,))


def _paths(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NotFound("file", str(path), hint="there is no such file or folder")
    found = sorted([*path.rglob("*.jsonl"), *path.rglob("*.jsonl.gz")])
    # A whole source holds its latents and windows as well.
    inside = [p for p in found if p.parent.name == "explanations"]
    if not (inside or found):
        raise ConfigError(f"{FORMAT}: {path} holds no .jsonl and no .jsonl.gz")
    return inside or found


def _survey(paths: Sequence[Path], options: Import) -> tuple[dict[str, int], str, int]:
    """Return the width of each source, at least, the model, and how many explanations it has.

    Raises:
        ConfigError: there are several models, or none.
    """
    widths: dict[str, dict[str, int]] = {}
    n_rows: dict[str, int] = {}
    for row in (row for path in paths for row in _rows(path)):
        held = widths.setdefault(row.model, {})
        held[row.source] = max(held.get(row.source, 0), row.latent + 1)
        n_rows[row.model] = n_rows.get(row.model, 0) + 1
    if not widths:
        raise ConfigError(f"{FORMAT}: {paths[0]} holds no explanations")
    wanted = options.model or next(iter(widths))
    if wanted not in widths:
        raise NotFound("model", wanted, widths, hint=f"in {options.path}")
    if options.model is None and len(widths) > 1:
        raise ConfigError(
            f"{FORMAT}: {options.path} has explanations of {', '.join(sorted(widths))}: choose one "
            "with --model"
        )
    return widths[wanted], wanted, n_rows[wanted]


def _named(widths: dict[str, int], options: Import) -> dict[str, str]:
    """Return the hookpoint of each source."""
    if not options.hookpoints:
        return {source: source for source in widths}
    if len(options.hookpoints) != 1 or len(widths) != 1:
        raise ConfigError(
            f"{FORMAT}: --hookpoints names the hookpoint of one source; the file has "
            f"{', '.join(sorted(widths))}"
        )
    return {next(iter(widths)): options.hookpoints[0]}


def _wanted(paths: Sequence[Path], model: str) -> Iterator[_Row]:
    for path in paths:
        yield from (row for row in _rows(path) if row.model == model)


def _rows(path: Path) -> Iterator[_Row]:
    for number, row in lines(path):
        try:
            yield _row(row)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ConfigError(
                f"{FORMAT}: {path}, line {number}: expected modelId, layer, index and description, "
                f"or concept and ref; found {sorted(row)}"
            ) from exc


def _row(row: dict[str, Any]) -> _Row:
    if "concept" in row:
        match = _REF.search(row["ref"])
        if match is None:
            raise ValueError("no page of a latent")
        text = storable(row["concept"])
        return _Row(match[1], match[2], int(match[3]), text, "axbench", {"ref": row["ref"]})
    detail = {n: row[n] for n in ("id", "typeName", "explanationModelName") if row.get(n)}
    method = str(row.get("typeName") or "neuronpedia")
    text = storable(row["description"])
    return _Row(str(row["modelId"]), str(row["layer"]), int(row["index"]), text, method, detail)


def _parts(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    part: list[_Row] = []
    for row in rows:
        part.append(row)
        if len(part) == _ROWS:
            yield part
            part = []
    if part:
        yield part


def _write(lake: Lake, capture: str, hookpoint: str, rows: Sequence[_Row]) -> int:
    """Write explanations of one hookpoint, once; return how many."""
    texts = [[row.latent, row.method, row.text] for row in rows]
    app = f"import/{capture}/{hookpoint}/{digest(texts)}"
    if lake.committed("explanations", app):
        return 0
    scope = {"capture": capture, "hookpoint": hookpoint}
    # Of rows that say the same of one latent one is enough.
    made = {row["explanation"]: row for row in (_explanation(scope, one) for one in rows)}
    return lake.upsert("explanations", list(made.values()), scope=scope, spans=("latent",), app=app)


def _explanation(scope: dict[str, str], row: _Row) -> dict[str, Any]:
    settings = digest([FORMAT, row.method, row.detail.get("explanationModelName")])
    text = " ".join(row.text.split())
    return {
        **scope,
        "latent": row.latent,
        "explanation": digest([*scope.values(), row.latent, settings, text]),
        "explainer": row.method,
        "settings": settings,
        "prompt": None,
        "sample": "",
        "text": text or None,
        "status": "ok" if text else "not_applicable",
        "reason": "" if text else "the file holds an empty one",
        "detail": json_text(row.detail),
        "reply_keys": [],
        "run": f"import-{settings}",
        "created_at": now(),
    }
