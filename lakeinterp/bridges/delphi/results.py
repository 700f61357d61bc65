"""What a delphi run left beside its cache: explanations and scores, one file a latent.

`explanations/<hookpoint>_latent<i>.txt` is a JSON string and `<hookpoint>_latent<i>.txt` below
`scores/<scorer>` a list of items; earlier versions wrote `_feature<i>` and other keys. A slash of a
hookpoint's name is `--` in the names of scores.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lakeinterp.bridges.texts import storable
from lakeinterp.errors import ConfigError, NotFound, UnparsableReply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCORERS = {"fuzz": "fuzzing"}
"""Its names of scorers, where they are not those of the lake."""
KIND = {"random": "random", "FAISS": "similar", "neighbours": "neighbour"}
"""Its names of what stands for texts without the latent, and those of the lake."""
_FILE = re.compile(r"(.+)_(?:latent|feature)(\d+)\.txt")
_NO_TEXT = {"", "Explanation could not be parsed.", "No explanation found"}
"""What it stores in place of an explanation."""


class Key(NamedTuple):
    """A latent of a run."""

    hookpoint: str
    latent: int


class Said(NamedTuple):
    """What a run says of a latent."""

    stored: str
    text: str | None
    """The explanation, cut where the model ran on; None where there is none."""


class Item(NamedTuple):
    """One judged text."""

    pieces: tuple[str, ...]
    values: tuple[float, ...]
    """Activation of each piece, as delphi shows them; empty in earlier versions."""
    distance: float
    truth: bool
    prediction: bool | None
    """None where the call or the reading of its reply failed."""
    probability: float | None
    is_contradicted: bool
    """Whether the file's own `correct` says otherwise than truth and prediction."""


@dataclass(frozen=True, slots=True)
class Run:
    """Where the files of a run are."""

    root: Path
    explanations: dict[Key, Path]
    scores: dict[str, dict[Key, Path]]
    """By delphi's name of the scorer."""
    left_out: dict[str, int]
    """Files of scorers whose items are no true or false calls, by scorer."""
    config: dict[str, Any]
    """`run_config.json`; empty if there is none."""

    @property
    def keys(self) -> list[Key]:
        """Every latent that a file speaks of, sorted."""
        judged = {key for files in self.scores.values() for key in files}
        return sorted(judged.union(self.explanations))

    @property
    def negatives(self) -> str:
        """Stratum of the texts without the latent that are not a neighbour's."""
        source = self.config.get("constructor_cfg", {}).get("non_activating_source", "random")
        return KIND.get(str(source), "random")


def find(root: Path) -> Run:
    """Find the results in a run's folder.

    Raises:
        NotFound: there is no such folder.
        ConfigError: it holds no results.
    """
    if not root.is_dir():
        raise NotFound("folder", str(root), hint="there is no such folder")
    said = _files(root / "explanations")
    scores, left_out = {}, {}
    for folder in sorted(p for p in (root / "scores").glob("*") if p.is_dir()):
        files = _files(folder)
        if files and not _is_calls(next(iter(files.values()))):
            left_out[folder.name] = len(files)
        elif files:
            scores[folder.name] = files
    if not said and not scores:
        raise ConfigError(
            f"delphi results: {root} holds none; expected explanations/HOOKPOINT_latentN.txt and "
            "scores/SCORER/HOOKPOINT_latentN.txt in it"
        )
    config = root / "run_config.json"
    held = _json(config) if config.is_file() else {}
    return Run(root.resolve(), said, scores, left_out, held if isinstance(held, dict) else {})


def explanation(path: Path) -> Said:
    """Read one explanation; a run-on reply is cut where the next example begins.

    Raises:
        ConfigError: the file is no JSON string.
    """
    from lakeinterp.chat.parse import parse_field

    held = _json(path)
    if not isinstance(held, str):
        raise ConfigError(f"delphi results: {path} holds no JSON string")
    stored = storable(held)
    if stored.strip() in _NO_TEXT:
        return Said(stored, None)
    try:
        return Said(stored, parse_field(f"[EXPLANATION]: {stored.strip()}", "explanation"))
    except UnparsableReply:
        return Said(stored, None)


def items(path: Path) -> Iterator[Item]:
    """Yield the judged texts of one file.

    Raises:
        ConfigError: the file is cut off, or its items lack what a judgement needs.
    """
    for number, row in enumerate(_list(path), start=1):
        try:
            yield _item(row)
        except (KeyError, TypeError, ValueError) as exc:
            raise ConfigError(
                f"delphi results: {path}, item {number} is no judged text: {exc!r:.80}"
            ) from exc


def _item(row: dict[str, Any]) -> Item:
    truth = bool(row["activating"] if "activating" in row else row["ground_truth"])
    said, chance = row["prediction"], row.get("probability")
    # Earlier versions wrote -1 for a failure.
    prediction = None if said is None or said == -1 else float(said) >= 0.5
    pieces = row["str_tokens"] if "str_tokens" in row else [row["text"]]
    right = row.get("correct")
    return Item(
        pieces=tuple(storable(piece) for piece in pieces),
        values=tuple(float(value) for value in row.get("activations") or ()),
        distance=float(row["distance"]),
        truth=truth,
        prediction=prediction,
        probability=None if chance is None else float(chance),
        is_contradicted=None not in (right, prediction) and bool(right) != (prediction == truth),
    )


def _is_calls(path: Path) -> bool:
    """Whether a file's items are texts that were called true or false, as far as it tells."""
    first = next(iter(_list(path)), None)
    return first is None or (isinstance(first, dict) and "prediction" in first)


def _files(folder: Path) -> dict[Key, Path]:
    found = {}
    for path in sorted(folder.rglob("*.txt")):
        match = _FILE.fullmatch(path.relative_to(folder).as_posix())
        if match is not None:
            name = match[1].replace("--", "/").removeprefix(".")
            found[Key(name, int(match[2]))] = path
    return found


def _list(path: Path) -> list[Any]:
    held = _json(path)
    if not isinstance(held, list):
        raise ConfigError(f"delphi results: {path} holds no list of items")
    return held


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"delphi results: {path} cannot be read: {exc}") from exc
