"""Explanations and judgements as the files of a delphi run, which its own report reads.

What delphi has no word for is written as near to it as it gets: every text without the latent that
is not a neighbour's has the distance -1; the highlighted tokens of fuzzing are not shown.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lakeinterp.bridges.base import Exported
from lakeinterp.bridges.chosen import choose, only_explainer, vocabulary
from lakeinterp.bridges.delphi.results import SCORERS
from lakeinterp.bridges.folders import json_line, whole, write_json
from lakeinterp.lake import queries, where

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lakeinterp.bridges.base import Export, Progress
    from lakeinterp.bridges.chosen import Chosen
    from lakeinterp.lake import Lake, Vocabulary

_THEIRS = {ours: theirs for theirs, ours in SCORERS.items()}
_ROWS = 5_000


def export_results(lake: Lake, options: Export, *, progress: Progress | None = None) -> Exported:
    """Write `explanations/`, `scores/`, `run_config.json` and the firing counts.

    Args:
        lake: The lake.
        options: `path` is the folder of the run; `explainer` is needed if there are several.
        progress: Called after each hookpoint.

    Raises:
        NotFound: no such capture, hookpoint or explainer.
        ConfigError: there are no explanations, or the folder is not empty.
        StorageError: the disk refuses.
    """
    places = choose(lake, options)
    capture = str(places[0].capture["capture"])
    explainer = only_explainer(lake, capture, options.explainer)
    texts = vocabulary(lake, places[0].capture)
    n_said = n_scored = n_items = 0
    about = {"format": "delphi-results", "capture": capture, "explainer": explainer}
    with whole(options.path, overwrite=options.overwrite, about=about) as folder:
        for done, place in enumerate(places, start=1):
            n_said += _explanations(place, explainer, folder)
            for row_items in _scores(place, explainer, texts, folder):
                n_scored, n_items = n_scored + 1, n_items + row_items
            if progress:
                progress(done=done, total=len(places))
        _counts(places, folder)
        write_json(folder / "run_config.json", _config(places[0], options))
    said = (
        f"exported {n_said:,} explanations by {explainer} and {n_items:,} judged texts in "
        f"{n_scored:,} files of scores to {options.path}"
    )
    names = tuple(place.name for place in places)
    return Exported(capture, names, n_items, 0, n_said + n_scored, (said,))


def _explanations(place: Chosen, explainer: str, folder: Path) -> int:
    with place.lake.connect(explanations=where(**place.key)) as con:
        rows = queries.load("bridges/standing").table(
            con, **place.key, explainer=explainer, latents=place.wanted
        )
    n_written = 0
    for row in rows.to_pylist():
        stored = json.loads(row["detail"] or "{}").get("stored")
        if (text := stored if isinstance(stored, str) else row["text"]) is None:
            continue
        # Delphi looks explanations up under the hookpoint's name as it is.
        path = folder / "explanations" / f"{place.name}_latent{row['latent']}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json_line(text), encoding="utf-8")
        n_written += 1
    return n_written


def _scores(place: Chosen, explainer: str, texts: Vocabulary, folder: Path) -> Iterator[int]:
    """Write the files of scores and yield the items of each."""
    key = where(**place.key)
    name = place.name.replace("/", "--")
    with place.lake.connect(explanations=key, scores=key, judgements=key, examples=key) as con:
        batches = queries.load("bridges/judged_items").batches(
            con, _ROWS, **place.key, explainer=explainer,
            latents=place.wanted,
        )  # fmt: skip
        rows = (row for batch in batches for row in batch.to_pylist())
        for (latent, scorer), found in groupby(rows, key=lambda r: (r["latent"], r["scorer"])):
            items = [_item(row, texts) for row in found]
            path = folder / "scores" / _THEIRS.get(scorer, scorer) / f"{name}_latent{latent}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json_line(items), encoding="utf-8")
            yield len(items)


def _item(row: Mapping[str, Any], texts: Vocabulary) -> dict[str, Any]:
    """Return one item with the keys of delphi's."""
    shown = _shown(row, texts)
    prediction = row["prediction"]
    return {
        **shown,
        "activating": row["truth"],
        "prediction": prediction,
        "probability": row["probability"],
        "correct": None if prediction is None else prediction == row["truth"],
    }


def _shown(row: Mapping[str, Any], texts: Vocabulary) -> dict[str, Any]:
    held = json.loads(row["detail"] or "{}")
    if row["tokens"] is None:
        return {name: held.get(name, none) for name, none in _NOTHING.items()}
    distance = -1.0
    if row["quantile"] is not None:
        distance = row["quantile"] - 1
    elif row["stratum"] == "neighbour":
        distance = -float(row["similarity"] or 0)
    values = [float(value) for value in row["values"]]
    return {
        "str_tokens": list(texts.pieces(row["tokens"])),
        "activations": values,
        "distance": distance,
    }


_NOTHING: dict[str, Any] = {"str_tokens": [], "activations": [], "distance": -1.0}


def _config(place: Chosen, options: Export) -> dict[str, Any]:
    """Return `run_config.json`: as it was read, or what the report asks of it."""
    held = json.loads(place.capture["config"]).get("delphi-results", {}).get("run_config")
    if held:
        return dict(held)
    sampling = options.config.sampling
    return {
        "model": place.capture["model"],
        "sparse_model": place.capture["coder"],
        "constructor_cfg": {
            "example_ctx_len": sampling.window_tokens,
            "min_examples": sampling.min_windows,
            "non_activating_source": "random",
        },
        "sampler_cfg": {
            "n_examples_train": sampling.n_explain,
            "n_examples_test": sampling.n_score,
            "n_quantiles": sampling.n_quantiles,
        },
    }


def _counts(places: list[Chosen], folder: Path) -> None:
    """Write how often each latent fires, where torch is installed and latents were counted."""
    try:
        import torch
    except ImportError:
        return
    found = {}
    for place in places:
        counts = torch.zeros(int(place.hookpoint["n_latents"]), dtype=torch.int64)
        latents = place.lake.scan("latents").filter(**place.key)
        fired = latents.select("latent", "n_activations").drop_nulls().collect()
        counts[fired["latent"].to_torch().long()] = fired["n_activations"].to_torch()
        found[place.name] = counts
    (folder / "log").mkdir()
    torch.save(found, folder / "log" / "hookpoint_firing_counts.pt")
