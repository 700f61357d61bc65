"""One JSON file a latent: pages of circuit-tracer's viewer, and OpenAI's neuron records."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from lakeinterp.bridges.base import Exported
from lakeinterp.bridges.chosen import choose
from lakeinterp.bridges.folders import whole, write_json
from lakeinterp.bridges.neuronpedia.naming import layer_of, slug
from lakeinterp.bridges.pages import pages
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.bridges.base import Export, Progress
    from lakeinterp.bridges.chosen import Chosen
    from lakeinterp.bridges.pages import Page
    from lakeinterp.lake import Lake
    from lakeinterp.terms import Example


class Layout(Protocol):
    """Where a latent's file is and what it holds."""

    def __call__(
        self, place: Chosen, layer: int, page: Page, options: Export
    ) -> tuple[PurePosixPath, dict[str, Any]]:
        """Return the file's path below the folder, and its object."""
        ...


def export_circuits(lake: Lake, options: Export, *, progress: Progress | None = None) -> Exported:
    """Write `features/SCAN/N.json`, N the Cantor number of layer and latent.

    `names.source_set` is the scan, the capture's name by default. circuit-tracer's viewer reads the
    folder of a scan that begins with `./`.

    Raises:
        NotFound: no such capture or hookpoint.
        ConfigError: the folder is not empty, a layer is not to be seen from a name, two hookpoints
            are of one layer, or the model cannot be opened.
        StorageError: the disk refuses.
    """
    return _export(lake, options, progress, "circuit-tracer", _circuit)


def export_neurons(lake: Lake, options: Export, *, progress: Progress | None = None) -> Exported:
    """Write `neurons/LAYER/LATENT.json`, each a NeuronRecord; see `export_circuits`."""
    return _export(lake, options, progress, "openai-neurons", _neuron)


def cantor(layer: int, latent: int) -> int:
    """Return the one number that stands for a layer and a latent."""
    return (layer + latent) * (layer + latent + 1) // 2 + latent


def _export(
    lake: Lake, options: Export, progress: Progress | None, name: str, layout: Layout
) -> Exported:
    places = choose(lake, options)
    layers = _layers(places, options)
    capture = str(places[0].capture["capture"])
    n_files = n_empty = 0
    with whole(
        options.path, overwrite=options.overwrite, about={"format": name, "capture": capture}
    ) as folder:
        for done, (place, layer) in enumerate(zip(places, layers, strict=True), start=1):
            for page in pages(place, options):
                path, value = layout(place, layer, page, options)
                write_json(folder / path, value, indent=None)
                n_files, n_empty = n_files + 1, n_empty + (not page.top)
            if progress:
                progress(done=done, total=len(places))
    said = [f"exported {n_files:,} latents to {options.path}, a file each"]
    if n_empty:
        said.append(f"{n_empty:,} of them have no windows")
    names = tuple(place.name for place in places)
    return Exported(capture, names, 0, 0, n_files, tuple(said))


def _layers(places: Sequence[Chosen], options: Export) -> list[int]:
    found = [layer_of(place, options.names) for place in places]
    if len(set(found)) < len(found):
        raise ConfigError(
            f"hookpoints {', '.join(p.name for p in places)} are of the same layers, by which "
            "files are named: choose with --hookpoints"
        )
    return found


def _circuit(
    place: Chosen, layer: int, page: Page, options: Export
) -> tuple[PurePosixPath, dict[str, Any]]:
    scan = options.names.source_set or slug(str(place.capture["capture"]))
    named = [("Top activations", page.top)] if page.top else []
    named += [(f"Quantile {g.quantile}", g.examples) for g in page.groups()]
    value = {
        "transcoder_id": f"{scan}/{place.name}",
        "index": page.latent,
        "examples_quantiles": [
            {"quantile_name": title, "examples": [_example(e) for e in found]}
            for title, found in named
        ],
        "top_logits": [token.text for token in page.raised],
        "bottom_logits": [token.text for token in page.lowered],
        "act_min": 0.0,
        "act_max": page.peak,
        "quantile_values": [float(v) for v in page.counted.get("quantiles") or ()],
        "histogram": [float(count) for _, _, count in page.bars],
        "activation_frequency": page.density or 0.0,
    }
    return PurePosixPath("features", scan, f"{cantor(layer, page.latent)}.json"), value


def _example(example: Example) -> dict[str, Any]:
    return {
        "tokens": list(example.pieces),
        "tokens_acts_list": list(example.values),
        "train_token_ind": example.peak_offset or 0,
        "is_repeated_datapoint": False,
    }


def _neuron(
    place: Chosen, layer: int, page: Page, options: Export
) -> tuple[PurePosixPath, dict[str, Any]]:
    """Return a record; its random sample are random windows in which the latent is silent."""
    del place, options
    mean = page.counted.get("mean")
    groups = page.groups(with_top=True)
    density = page.density
    value = {
        "dataclass_name": "NeuronRecord",
        "neuron_id": {
            "dataclass_name": "NeuronId", "layer_index": layer, "neuron_index": page.latent,
        },
        "random_sample": [_record(example) for example in page.silent],
        "random_sample_by_quantile": [
            [_record(example) for example in group.examples] for group in reversed(groups)
        ] or None,
        "quantile_boundaries": [group.low for group in reversed(groups)] or None,
        # Of all tokens: where the latent is silent it counts as zero.
        "mean": None if mean is None or density is None else float(mean) * density,
        "variance": None,
        "skewness": None,
        "kurtosis": None,
        "most_positive_activation_records": [_record(example) for example in page.top],
    }  # fmt: skip
    return PurePosixPath("neurons", str(layer), f"{page.latent}.json"), value


def _record(example: Example) -> dict[str, Any]:
    return {
        "dataclass_name": "ActivationRecord",
        "tokens": list(example.pieces),
        "activations": list(example.values),
    }
