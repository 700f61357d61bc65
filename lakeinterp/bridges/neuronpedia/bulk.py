"""Whole sources in the form of Neuronpedia's exports, which its importer reads.

`MODEL/SOURCE/{release,model,sourceset,source}.jsonl` and batches of 1,024 latents in `features`,
`activations` and `explanations`. Fields are columns of its database, the same ones in every line,
since the importer takes those of a file's first line. Lists of what the lake does not measure
(neuron alignment, histogram of all logits, …) are empty, as in its own exports.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from lakeinterp.bridges.base import Exported
from lakeinterp.bridges.chosen import choose
from lakeinterp.bridges.folders import Batches, json_line, whole
from lakeinterp.bridges.neuronpedia.naming import cuid, sources
from lakeinterp.bridges.pages import pages
from lakeinterp.lake import where
from lakeinterp.lake.units import captured_sequences

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lakeinterp.bridges.base import Export, Progress
    from lakeinterp.bridges.chosen import Chosen
    from lakeinterp.bridges.neuronpedia.naming import Source
    from lakeinterp.bridges.pages import Page
    from lakeinterp.lake import Lake
    from lakeinterp.terms import Example

BATCH = 1024
"""Latents of one file."""
_EMPTY = (
    "vector", "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1",
    "correlated_neurons_indices", "correlated_neurons_pearson", "correlated_neurons_l1",
    "correlated_features_indices", "correlated_features_pearson", "correlated_features_l1",
    "logits_hist_data_bar_heights", "logits_hist_data_bar_values", "decoder_weights_dist",
)  # fmt: skip


def export_sources(lake: Lake, options: Export, *, progress: Progress | None = None) -> Exported:
    """Write a source for each hookpoint.

    Args:
        lake: The lake.
        options: `path` is the folder; `names` what things are called.
        progress: Called after each hookpoint.

    Raises:
        NotFound: no such capture or hookpoint.
        ConfigError: the folder is not empty, a name is missing, or the model cannot be opened.
        StorageError: the disk refuses.
    """
    places = choose(lake, options)
    named = sources(places, options)
    capture = str(places[0].capture["capture"])
    counts = {"features": 0, "activations": 0, "explanations": 0}
    about = {"format": "neuronpedia", "capture": capture}
    with whole(options.path, overwrite=options.overwrite, about=about) as folder:
        for done, (place, source) in enumerate(zip(places, named, strict=True), start=1):
            inside = folder / source.model / source.id
            inside.mkdir(parents=True)
            _about(place, source, options, inside)
            _batches(place, source, options, inside, counts)
            if progress:
                progress(done=done, total=len(places))
    said = (
        f"exported {counts['features']:,} latents with {counts['activations']:,} windows and "
        f"{counts['explanations']:,} explanations as {', '.join(s.id for s in named)} of "
        f"{named[0].model} to {options.path}"
    )
    names = tuple(place.name for place in places)
    return Exported(capture, names, counts["activations"], 0, sum(counts.values()), (said,))


def _batches(
    place: Chosen, source: Source, options: Export, folder: Path, counts: dict[str, int]
) -> None:
    with ExitStack() as stack:
        files = {name: stack.enter_context(Batches(folder / name)) for name in counts}
        near = _Near(place)
        for number, page in enumerate(pages(place, options)):
            made = _Rows(place, source, options, page)
            files["features"].put(number // BATCH, made.feature(near.of(page.latent)))
            for row in made.activations():
                files["activations"].put(number // BATCH, row)
            for row in made.explanations():
                files["explanations"].put(number // BATCH, row)
        for name, file in files.items():
            counts[name] += file.n_rows


class _Rows:
    """The rows of one latent."""

    def __init__(self, place: Chosen, source: Source, options: Export, page: Page) -> None:
        self._place, self._source, self._options, self._page = place, source, options, page
        self._created = place.capture["created_at"].isoformat()
        self._at = {"modelId": source.model, "layer": source.id, "index": str(page.latent)}
        self._made = {"creatorId": options.names.creator_id, "createdAt": self._created}

    def feature(self, near: list[tuple[int, float]]) -> dict[str, Any]:
        """Return the latent itself; `near` are its nearest by their decoder rows."""
        page = self._page
        bars = page.bars
        return {
            **self._at,
            **self._made,
            "sourceSetName": self._source.set,
            "maxActApprox": page.peak,
            "hasVector": False,
            "vectorLabel": None,
            "vectorDefaultSteerStrength": page.peak,
            "hookName": None,
            "topkCosSimIndices": [latent for latent, _ in near],
            "topkCosSimValues": [similarity for _, similarity in near],
            "pos_str": [token.text for token in page.raised],
            "pos_values": [token.value for token in page.raised],
            "neg_str": [token.text for token in page.lowered],
            "neg_values": [token.value for token in page.lowered],
            "frac_nonzero": page.density or 0.0,
            "freq_hist_data_bar_values": [(low + high) / 2 for low, high, _ in bars],
            "freq_hist_data_bar_heights": [count for _, _, count in bars],
            **{name: [] for name in _EMPTY},
        }

    def activations(self) -> Iterator[dict[str, Any]]:
        """Yield the windows: the strongest, then those of each quantile."""
        page = self._page
        for number, example in enumerate(page.top):
            yield self._activation(number, example, -1, page.peak, -1)
        number = len(page.top)
        for group in page.groups():
            for example in group.examples:
                share = group.share if group.share is not None else 0
                yield self._activation(number, example, group.low, group.high, share)
                number += 1

    def _activation(
        self, number: int, example: Example, low: float, high: float, share: float
    ) -> dict[str, Any]:
        place = max(range(len(example.values)), key=lambda i: example.values[i])
        return {
            "id": cuid(self._place.key["capture"], *self._at.values(), "window", number),
            **self._at,
            **self._made,
            "tokens": list(example.pieces),
            "values": list(example.values),
            "maxValue": example.values[place],
            "maxValueTokenIndex": place,
            "minValue": min(example.values),
            "binMin": low,
            "binMax": high,
            "binContains": share,
            "qualifyingTokenIndex": example.peak_offset,
            "dataIndex": None,
            "dataSource": None,
            "dfaValues": [],
            "dfaTargetIndex": None,
            "dfaMaxValue": None,
            "lossValues": [],
            "logitContributions": None,
        }

    def explanations(self) -> Iterator[dict[str, Any]]:
        """Yield the explanations that stand."""
        names = self._options.names
        for row in self._page.explanations:
            yield {
                "id": cuid(row["explanation"]),
                **self._at,
                "description": row["text"],
                "authorId": names.creator_id,
                "embedding": None,
                "typeName": names.method,
                "explanationModelName": names.explanation_model,
                "notes": f"lakeinterp {row['explainer']} {row['explanation']}",
                "createdAt": self._created,
            }


class _Near:
    """The latents whose decoder rows are nearest, of those that were counted; some at a time."""

    def __init__(self, place: Chosen) -> None:
        self._place, self._first = place, -BATCH
        self._held: dict[int, list[tuple[int, float]]] = {}

    def of(self, latent: int) -> list[tuple[int, float]]:
        """Return the nearest of a latent and their cosines."""
        if not self._first <= latent < self._first + BATCH:
            self._first, self._held = latent - latent % BATCH, {}
            key = where(**self._place.key, method="decoder")
            key += f" AND latent >= {self._first} AND latent < {self._first + BATCH}"
            for row in self._place.lake.rows("neighbours", key):
                near = self._held.setdefault(row["latent"], [])
                near.append((row["neighbour"], row["similarity"]))
        return self._held.get(latent, [])


def _about(place: Chosen, source: Source, options: Export, folder: Path) -> None:
    """Write the four files that say whose source it is.

    What the lake does not know is left to the server's defaults: its importer refuses a field
    that it does not know, and a null in place of JSON.
    """
    names, row = options.names, place.capture
    created = {"creatorId": names.creator_id, "createdAt": row["created_at"].isoformat()}
    release = names.release or source.set
    said: dict[str, Mapping[str, Any]] = {
        "release": {
            "name": release, "description": release, "descriptionShort": release, "urls": [],
            "creatorName": names.creator, "creatorNameShort": names.creator,
            "visibility": "PUBLIC", "defaultSourceSetName": source.set,
            "defaultSourceId": source.id, **created,
        },
        "model": {
            "id": source.model, "displayNameShort": source.model, "displayName": source.model,
            "visibility": "PUBLIC", "layers": 0, "neuronsPerLayer": 0, "owner": "",
            "updatedAt": created["createdAt"], **created,
        },
        "sourceset": {
            "modelId": source.model, "name": source.set, "visibility": "PUBLIC",
            "description": f"{place.name} of {row['coder']}", "creatorName": names.creator,
            "urls": [], "releaseName": release, **created,
        },
        "source": {
            "id": source.id, "modelId": source.model, "setName": source.set,
            "hasDashboards": True, "inferenceEnabled": False, "visibility": "PUBLIC",
            "num_prompts": captured_sequences(place.lake, str(row["capture"])),
            "num_tokens_in_prompt": row["context_tokens"],
            "dataset": json.loads(row["config"]).get("corpus", {}).get("dataset"), **created,
        },
    }  # fmt: skip
    for name, value in said.items():
        (folder / f"{name}.jsonl").write_text(json_line(value) + "\n", encoding="utf-8")
