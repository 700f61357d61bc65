"""The parsers on what language models really replied, and a published score table made again.

    python benchmarks/real_replies.py FOLDER

FOLDER holds any of `replies/saebench-autointerp-logs_*.txt` (prompts, raw replies and the score
table of SAEBench's automated interpretability), `delphi/results` (explanations and scores that
delphi wrote) and `replies/*.jsonl` with explanations to be loaded; nothing is asked of anybody.

Prints Markdown: how many replies of each kind were read, what was not and why, and how many rows of
the score table come out the same. A score there is 1 - the share of wrongly judged items.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from lakeinterp.chat.parse import parse_choices, parse_field, parse_labels
from lakeinterp.errors import LakeinterpError, UnparsableReply
from lakeinterp.explain import sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

N_ITEMS = 14
"""Texts of one judgement in these logs."""
_ROW = re.compile(r"│\s*(\d+) │ (.*?)\s*│ \[(.*?)\]\s*│ \[(.*?)\]\s*│\s*([\d.]+)\s*│")
_INDEX = re.compile(r"scoring idx (\d+), score")


class Read(NamedTuple):
    """What came of replies of one kind."""

    kind: str
    n: int
    n_read: int
    notes: tuple[str, ...] = ()
    """On those that were not read, and on what else is worth saying; each once."""


class Row(NamedTuple):
    """One line of the score table."""

    latent: int
    explanation: str
    chosen: frozenset[int]
    """Numbers of the texts that the judge named."""
    right: frozenset[int]
    score: float


def main() -> None:
    """Read every kind of reply that the folder holds and print the tables."""
    folder = arguments().folder
    logs = sorted((folder / "replies").glob("saebench-autointerp-logs_*.txt"))
    found = [read for log in logs for read in of_log(log)]
    found += of_delphi(folder / "delphi" / "results")
    found += of_loaded(folder / "replies")
    if not found:
        sys.exit(f"{folder} holds no replies that this script knows")
    print("| replies | found | read | what was not, and why |\n|---|---|---|---|")
    for read in found:
        notes = "; ".join(read.notes).replace("|", "\\|")
        print(f"| {read.kind} | {read.n} | {read.n_read} | {notes} |")
    print("\n| score table | rows | same score | same choices read back | mean score |")
    print("|---|---|---|---|---|")
    for log in logs:
        print(table_line(log))


def arguments() -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    return parser.parse_args()


def of_log(log: Path) -> Iterator[Read]:
    """Read the raw replies that a log shows in full: of the explainer, then of the judge."""
    text = log.read_text(encoding="utf-8")
    rows = {row.latent: row for row in table(text)}
    named = [int(latent) for latent in _INDEX.findall(text)]
    said = [_cell(part) for part in text.split("│ assistant │")[1:]]
    explained, judged = said[0::2], said[1::2]
    yield _read(f"{log.stem}: explainer, as it came", explained, _as_explanation)
    tagged = [f"[EXPLANATION]: {reply}" for reply in explained]
    yield _read(f"{log.stem}: the same after the tag that prompts ask for", tagged, _as_explanation)
    read = _read(f"{log.stem}: judge", judged, lambda t: parse_choices(t, N_ITEMS))
    wrong = [
        f"latent {latent}: the table has other choices than the reply"
        for latent, reply in zip(named, judged, strict=True)
        if _chosen(reply) != rows[latent].chosen
    ]
    yield read._replace(notes=(*read.notes, *wrong))


def table(text: str) -> list[Row]:
    """Return the score table at the head of a log."""
    return [
        Row(int(latent), explanation, _numbers(chosen), _numbers(right), float(score))
        for latent, explanation, chosen, right, score in _ROW.findall(text)
    ]


def table_line(log: Path) -> str:
    """Score every row of a table again, from its choices written as a judge writes them."""
    rows = table(log.read_text(encoding="utf-8"))
    same = n_back = 0
    scores = []
    for row in rows:
        reply = ", ".join(map(str, sorted(row.chosen))) or "None"
        labels = parse_choices(reply, N_ITEMS)
        n_back += labels == parse_labels(json.dumps([int(label) for label in labels]), N_ITEMS)
        wrong = sum(label != (i in row.right) for i, label in enumerate(labels, start=1))
        scores.append(1 - wrong / N_ITEMS)
        same += abs(scores[-1] - row.score) < 5e-7
    mean = sum(scores) / len(scores)
    return f"| {log.stem} | {len(rows)} | {same} | {n_back} | {mean:.4f} |"


def of_delphi(folder: Path) -> Iterator[Read]:
    """Read the explanations and the predictions that delphi stored."""
    paths = sorted((folder / "explanations").glob("*.txt"))
    if paths:
        said = [str(json.loads(path.read_text(encoding="utf-8"))) for path in paths]
        read = _read(
            "delphi: explanations", [f"[EXPLANATION]: {text}" for text in said], _as_explanation
        )
        cut = [
            f"{path.stem}: cut from {len(text):,} to {len(_as_explanation(text)):,} characters, "
            "where the model went on with examples of its own"
            for path, text in zip(paths, (f"[EXPLANATION]: {t}" for t in said), strict=True)
            if len(_as_explanation(text)) < len(text) - len("[EXPLANATION]: ")
        ]
        yield read._replace(notes=(*read.notes, *cut))
    for path in sorted((folder / "scores").rglob("*.txt")):
        rows = json.loads(path.read_text(encoding="utf-8"))
        yield _of_predictions(f"delphi: {path.parent.name} of {path.stem}", rows)


def _of_predictions(kind: str, rows: Sequence[dict[str, Any]]) -> Read:
    """Write predictions as lists of five, as the judge was to reply, and read them again."""
    held = [row["prediction"] for row in rows if row["prediction"] is not None]
    n_null = len(rows) - len(held)
    n_read = 0
    for batch in (held[i : i + 5] for i in range(0, len(held), 5)):
        n_read += len(batch) * (parse_labels(json.dumps(batch), len(batch)) == batch)
    sides = {bool(row["activating"]) for row in rows}
    notes = [f"{n_null} without a prediction: failed in delphi already"] if n_null else []
    if sides != {True, False}:
        notes.append(f"{'only activating' if True in sides else 'only silent'} texts: no score")
    return Read(kind, len(rows), n_read, tuple(notes))


def of_loaded(folder: Path) -> Iterator[Read]:
    """Load files of explanations as the `loaded` explainer does."""
    for path in sorted(folder.glob("*.jsonl")):
        n = sum(bool(line.strip()) for line in path.read_text(encoding="utf-8").splitlines())
        try:
            source = sources.read(str(path), None)
        except LakeinterpError as exc:
            yield Read(f"{path.stem}: to be loaded", n, 0, (str(exc).replace(f"{path}", "it"),))
            continue
        yield Read(f"{path.stem}: to be loaded", n, sum(map(len, source.places.values())))


def _read(kind: str, replies: Sequence[str], parse: Callable[[str], object]) -> Read:
    why: list[str] = []
    for reply in replies:
        try:
            parse(reply)
        except UnparsableReply as exc:
            why.append(f"{exc}: {reply[:60]!r}")
    return Read(kind, len(replies), len(replies) - len(why), tuple(dict.fromkeys(why)))


def _as_explanation(text: str) -> str:
    return parse_field(text, "explanation")


def _chosen(reply: str) -> frozenset[int]:
    labels = parse_choices(reply, N_ITEMS)
    return frozenset(i for i, label in enumerate(labels, start=1) if label)


def _cell(text: str) -> str:
    """Return the words of a cell of a table that is drawn with lines, from its first row on."""
    lines = []
    for line in text.splitlines():
        if line.startswith(("├", "└")):
            break
        lines.append(line.strip("│ ") if not line.startswith("│") else line.split("│")[2].strip())
    return " ".join(lines).strip()


def _numbers(text: str) -> frozenset[int]:
    return frozenset(int(number) for number in re.findall(r"\d+", text))


if __name__ == "__main__":
    main()
