"""Explanations that were made elsewhere: files of several forms, delphi's folders, lakes."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from lakeinterp.errors import ConfigError, NotFound, UnparsableReply
from lakeinterp.lake import Lake, queries
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HOOKPOINT = ("hookpoint", "layer", "module", "hook_name")
_LATENT = ("latent", "latent_id", "index", "feature", "feature_id", "neuron")
_TEXT = ("explanation", "description", "text", "label", "annotation")
"""Names of columns and keys, the first that is there counts."""
_DELPHI = re.compile(r"(.+)_(?:latent|feature)(\d+)\.txt")
_NO_TEXT = {"Explanation could not be parsed.", "No explanation found"}
"""What delphi stores in place of an explanation."""


class Found(NamedTuple):
    """One explanation of a source."""

    text: str
    """On one line; empty if the source has none."""
    explanation: str | None = None
    """Its id, in a lake."""


Latents: TypeAlias = Mapping[int, Found]


class Source(NamedTuple):
    """All explanations of a source."""

    name: str
    places: Mapping[tuple[str | None, str | None], Latents]
    """By capture and hookpoint; None where the source does not name them."""
    digest: str
    """Of the texts and whose they are."""

    def of(self, capture: str, hookpoint: str, n_hookpoints: int) -> Latents:
        """Return the explanations of a hookpoint's latents, none if the source names others.

        Args:
            capture: If the source knows it; else the only one that the source has.
            hookpoint: Name.
            n_hookpoints: Of the capture; a source that names none is of one hookpoint.

        Raises:
            ConfigError: it cannot be told which explanations are meant.
        """
        captures = {at for at, _ in self.places}
        if len(captures) > 1 and capture not in captures:
            held = ", ".join(sorted(map(str, captures)))
            raise ConfigError(
                f"explain.source: {self.name} has the captures {held} and none is called "
                f"{capture}: give a lake with one, or one that has it"
            )
        at = capture if capture in captures else next(iter(captures), None)
        if (at, None) not in self.places:
            return self.places.get((at, hookpoint), {})
        if n_hookpoints > 1:
            raise ConfigError(
                f"explain.source: {self.name} does not say of which hookpoint the latents are, and "
                f"{capture} has {n_hookpoints}: add `hookpoint` to every row"
            )
        return self.places[at, None]


def read(place: str, explainer: str | None) -> Source:
    """Read a source, or return it as it was read before if it has not changed.

    Args:
        place: A CSV, TSV, JSON or JSONL file; a folder that delphi wrote; a lake.
        explainer: Whose explanations of a lake; None takes the only explainer's.

    Raises:
        NotFound: there is nothing at this place, or no such explainer in the lake.
        ConfigError: it holds no explanations, or two of one latent.
    """
    path = Path(place).expanduser()
    if "://" in place or (path / "explanations" / "_delta_log").is_dir():
        return _lake(place, explainer)
    if not path.exists():
        raise NotFound("file", place, hint="set explain.source to a file, a folder or a lake")
    folder = path / "explanations" if (path / "explanations").is_dir() else path
    held = folder if path.is_dir() else path
    files = sorted(held.rglob("*.txt")) if held.is_dir() else [held]
    stats = [(str(file), file.stat()) for file in files]
    seen = digest([(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats])
    return _read(place, str(held), seen)


def only_explainer(lake: Lake, wanted: str | None, captures: Iterable[str] = ()) -> str:
    """Return the explainer whose explanations are taken from a lake.

    Args:
        lake: The lake.
        wanted: Its name; None takes the only one that says something of its own.
        captures: Of these captures; none given takes all.

    Raises:
        ConfigError: the lake has explanations by several, or by none.
        NotFound: it has none by this one.
    """
    with lake.connect() as con:
        rows = queries.load("explain/explainers").run(con).fetchall()
    inside = set(captures) or {capture for capture, _, _ in rows}
    held = sorted({name for capture, name, _ in rows if capture in inside})
    own = [name for name in held if name not in ("constant", "loaded", "borrowed", "random")]
    if wanted is not None and wanted not in held:
        raise NotFound("explainer", wanted, held, hint=f"in {lake.root}: explain with it first")
    if wanted is None and len(own) != 1:
        raise ConfigError(
            f"explain.source_explainer: {lake.root} has explanations by {', '.join(own)}: say "
            "whose to take (--source-explainer)"
            if own
            else f"explain.source_explainer: {lake.root} has no explanations yet: run `lakeinterp "
            "explain` with another explainer first"
        )
    return wanted or own[0]


def _lake(place: str, wanted: str | None) -> Source:
    import lakeinterp

    lake = lakeinterp.open(place)
    explainer = only_explainer(lake, wanted)
    places: dict[tuple[str | None, str | None], dict[int, Found]] = {}
    with lake.connect() as con:
        for row in lake.rows("captures"):
            capture = row["capture"]
            held = queries.load("explain/held").run(con, capture=capture, explainer=explainer)
            for hookpoint, latent, explanation, text in held.fetchall():
                found = Found(" ".join(text.split()), explanation)
                places.setdefault((capture, hookpoint), {})[latent] = found
    return _source(place, places)


@lru_cache(maxsize=2)
def _read(name: str, place: str, _: str) -> Source:
    path = Path(place)
    places: dict[tuple[str | None, str | None], dict[int, Found]] = {}
    for hookpoint, latent, text in _delphi(path) if path.is_dir() else _file(path):
        held = places.setdefault((None, hookpoint), {})
        if latent in held:
            at = f"{hookpoint}#{latent}" if hookpoint else f"latent {latent}"
            raise ConfigError(f"explain.source: {name} has two explanations of {at}; keep one")
        held[latent] = Found(" ".join(text.split()))
    if not places:
        raise ConfigError(f"explain.source: {name} holds no explanations")
    if len(places) > 1 and (None, None) in places:
        raise ConfigError(f"explain.source: some rows of {name} lack a hookpoint; give it to all")
    return _source(name, places)


def _source(name: str, places: Mapping[tuple[str | None, str | None], Latents]) -> Source:
    texts = sorted(
        (str(capture), str(hookpoint), latent, found.text)
        for (capture, hookpoint), latents in places.items()
        for latent, found in latents.items()
    )
    return Source(name, places, digest(texts))


def _delphi(folder: Path) -> Iterator[tuple[str | None, int, str]]:
    """Yield what delphi wrote: one JSON text a latent, cut where the model ran on."""
    from lakeinterp.chat.parse import parse_field

    for path in sorted(folder.rglob("*.txt")):
        match = _DELPHI.fullmatch(path.relative_to(folder).as_posix())
        if match is None:
            continue
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        try:
            said = str(json.loads(text)).strip()
        except ValueError:
            said = text
        try:
            said = "" if said in _NO_TEXT else parse_field(f"[EXPLANATION]: {said}", "explanation")
        except UnparsableReply:
            said = ""
        yield match[1].removeprefix("."), int(match[2]), said


def _file(path: Path) -> Iterator[tuple[str | None, int, str]]:
    for number, row in _rows(path):
        latent, text = _named(row, _LATENT), _named(row, _TEXT)
        if text is None and not row.keys().isdisjoint(_TEXT):
            text = ""
        if latent is None or text is None or not str(latent).strip().isdecimal():
            hint = "; `lakeinterp import neuronpedia-explanations` reads it" * ("ref" in row)
            raise ConfigError(
                f"explain.source: {path}, row {number}: give every row a `latent` (a number), an "
                f"`explanation` and, of several hookpoints, a `hookpoint`; found {row!r:.120}{hint}"
            )
        hookpoint = _named(row, _HOOKPOINT)
        yield str(hookpoint) if hookpoint else None, int(latent), str(text)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the values of each row of a file, whatever its form.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix in (".csv", ".tsv"):
            rows: Iterable[Any] = csv.DictReader(
                text.splitlines(keepends=True), delimiter="\t" if path.suffix == ".tsv" else ","
            )
        elif path.suffix in (".jsonl", ".ndjson"):
            rows = (json.loads(line) for line in text.splitlines() if line.strip())
        else:
            rows = _flat(json.loads(text))
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict):
                raise ConfigError(f"explain.source: {path}, row {number} is no object: {row!r:.60}")
            yield number, {str(k).strip().lower(): v for k, v in row.items()}
    except (ValueError, csv.Error) as exc:
        raise ConfigError(f"explain.source: {path} cannot be read: {exc}") from exc


def _flat(value: object) -> list[Any]:
    """Return the rows of JSON: a list of them, {latent: text}, or {hookpoint: {latent: text}}."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return [value]
    if all(isinstance(inner, dict) for inner in value.values()):
        return [
            {"hookpoint": hookpoint, "latent": latent, "explanation": text}
            for hookpoint, latents in value.items()
            for latent, text in latents.items()
        ]
    return [{"latent": latent, "explanation": text} for latent, text in value.items()]


def _named(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)
