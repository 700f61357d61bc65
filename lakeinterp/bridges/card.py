"""The card of a dataset folder: what its tables hold, for readers and for the hub."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING

from lakeinterp.lake import queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakeinterp.bridges.chosen import Chosen

_MEANS = {
    "capture": "the pass of the model over the corpus",
    "hookpoint": "place in the model whose hidden state is coded",
    "latent": "number of the latent; 0-based",
    "explainer": "what wrote the explanation",
    "explanation": "id of the explanation; joins the two tables",
    "text": "what the latent means; empty unless `status` is ok",
    "status": "ok, or why there is no text or no value",
    "reason": "the same in words",
    "density": "share of the tokens on which the latent fires",
    "n_activations": "tokens on which it fires",
    "max": "its largest activation",
    "latent_status": "ok, rare, dead or dense",
    "settings": "digest of the settings that decided the row",
    "sample": "digest of the examples that were shown",
    "created_at": "when the row was made",
    "scorer": "how the explanation was tested",
    "metric": "which figure",
    "value": "the figure; empty where it could not be computed",
    "ci_low": "lower end of its 95 % interval",
    "ci_high": "upper end",
    "n": "items that were judged",
    "n_failed": "items whose judgement failed; they count as neither right nor wrong",
    "null_value": "the same figure for explanations of other latents on the same items",
    "corrected": "(value - null_value) / (1 - null_value)",
    "p_value": "rank of the value among those of other latents' explanations",
}
_STATEMENTS = {"explanations": "bridges/told", "scores": "bridges/measured"}


def card(places: Sequence[Chosen], files: Mapping[str, str], counts: Mapping[str, int]) -> str:
    """Return the text of `README.md`.

    Args:
        places: Hookpoints, of one capture.
        files: File of each table, below the folder; the first is what opens without a name.
        counts: Rows of each.
    """
    row = places[0].capture
    lines = ["---", *_front(files, counts), "---", "", f"# Latents of {_plain(row['model'])}", ""]
    lines += [
        "What latents of a sparse coder mean, and how well each explanation holds up.",
        "",
        f"- model: {_code(row['model'])}",
        f"- coder: {_code(row['coder'])}",
        f"- hookpoints: {', '.join(_code(place.name) for place in places)}",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        *(f'{table} = load_dataset(FOLDER, "{table}", split="train")' for table in files),
        "```",
    ]
    for table in files:
        lines += ["", f"## {table}", "", f"{counts[table]:,} rows.", "", *_columns(table)]
    return "\n".join(lines) + "\n"


def _front(files: Mapping[str, str], counts: Mapping[str, int]) -> list[str]:
    """Return the part that machines read; every value is JSON, which is YAML too."""
    largest = max(counts.values())
    sizes = {10**n: label for n, label in enumerate(_SIZES, start=3)}
    size = next((label for limit, label in sizes.items() if largest < limit), "n>1B")
    lines = ['pretty_name: "Explained latents"', "tags:", '- "interpretability"']
    lines += ['- "sparse-autoencoder"', "size_categories:", f"- {json.dumps(size)}", "configs:"]
    for number, (table, file) in enumerate(files.items()):
        lines += [f"- config_name: {json.dumps(table)}"]
        lines += ["  data_files:", '  - split: "train"', f"    path: {json.dumps(file)}"]
        lines += ["  default: true"] * (number == 0)
    return lines


_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")


def _columns(table: str) -> list[str]:
    typed = queries.load(_STATEMENTS[table]).columns
    rows = [f"| `{name}` | {kind.lower()} | {_MEANS[name]} |" for name, kind in typed.items()]
    return ["| column | type | |", "|---|---|---|", *rows]


def _plain(text: str) -> str:
    """Return a name on one line; of a folder on this machine its last part."""
    name = PurePath(text).name if PurePath(text).is_absolute() else text
    return " ".join(name.replace("`", "'").split()) or "an unnamed model"


def _code(text: str) -> str:
    return f"`{_plain(text)}`" if text else "not said"
