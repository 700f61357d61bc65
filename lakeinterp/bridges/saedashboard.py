"""Dashboards of SAEDashboard into the lake: windows, densities, histograms, correlated latents.

A dashboard shows chosen windows, not a corpus. So there are examples for explainers and figures of
latents, and there is nothing to draw negatives from: what is read can be explained, not scored.
Windows are strings; they become a vocabulary of their own, or are looked up in that of a capture.
Output logits and neuron alignment have no table and are not kept.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from lakeinterp.bridges.base import Imported
from lakeinterp.bridges.places import Place, settle
from lakeinterp.bridges.strings import tokens, words
from lakeinterp.bridges.texts import members, storable
from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.fingerprint import fingerprint
from lakeinterp.lake import where
from lakeinterp.lake.schema import TABLES
from lakeinterp.lake.units import sample_id
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lakeinterp.bridges.base import Import, Progress
    from lakeinterp.lake import Lake

FORMAT = "saedashboard"
_LATENTS = 64
"""Latents written in one commit."""
_HEAD = ("model_id", "layer", "sae_set", "sae_id_suffix")


@dataclass(slots=True)
class _Survey:
    """What a first reading of the files finds."""

    head: dict[str, Any] = field(default_factory=dict)
    pieces: set[str] = field(default_factory=set)
    """The distinct strings of all windows."""
    n_latents: int = 0
    """One more than the largest number."""
    n_pages: int = 0

    @property
    def source(self) -> str:
        """Layer and set, as Neuronpedia names them."""
        suffix = self.head.get("sae_id_suffix")
        name = f"{self.head.get('layer')}-{self.head.get('sae_set')}"
        return f"{name}__{suffix}" if suffix else name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where rows go."""

    lake: Lake
    key: dict[str, str]
    """Capture and hookpoint."""
    bucket_latents: int
    sample: str
    ids: Mapping[str, int]
    """Token of each string."""
    is_own: bool
    """Whether the capture holds nothing but dashboards."""


@dataclass(slots=True)
class _Rows:
    examples: list[dict[str, Any]] = field(default_factory=list)
    latents: list[dict[str, Any]] = field(default_factory=list)
    neighbours: list[dict[str, Any]] = field(default_factory=list)
    n_silent: int = 0


def import_dashboards(lake: Lake, options: Import, *, progress: Progress | None = None) -> Imported:
    """Read dashboards; files that were read before are not read again.

    Args:
        lake: The lake.
        options: `path` is a `batch-N.json` or a folder with such; `name` a capture, `hookpoints`
            its one hookpoint if it is not called like the source.
        progress: Called after each piece with the latents done.

    Raises:
        NotFound: there is no such file.
        ConfigError: a file is cut off or no dashboard, or its strings are not the tokens of the
            capture.
    """
    paths = _paths(options.path)
    survey = _survey(paths)
    target = _target(lake, options, survey)
    n_examples = n_silent = done = 0
    is_new = False
    for path in paths:
        app = f"import/{target.key['capture']}/{fingerprint(path)}"
        if lake.committed("examples", app):
            continue
        for part in _parts(path):
            rows = _rows(target, path, part)
            _put(target, rows)
            n_examples, n_silent = n_examples + len(rows.examples), n_silent + rows.n_silent
            done += len(part)
            if progress:
                progress(done=done, total=survey.n_pages)
        is_new |= lake.publish("examples", [], app=app, version=1)
    said = _lines(target, survey, n_examples, n_silent, is_new)
    return Imported(
        target.key["capture"], (target.key["hookpoint"],), 0, n_examples, n_silent, is_new,
        tuple(said),
    )  # fmt: skip


def _paths(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NotFound("file", str(path), hint="there is no such file or folder")
    found = sorted(path.glob("batch-*.json"), key=lambda p: (len(p.name), p.name))
    if not found:
        raise ConfigError(f"{FORMAT}: {path} holds no batch-*.json")
    return found


def _survey(paths: Sequence[Path]) -> _Survey:
    """Read all files once, for their strings and their heads.

    Raises:
        ConfigError: a file is no dashboard, or files are of different coders.
    """
    found = _Survey()
    for path in paths:
        head: dict[str, Any] = {}
        for member in members(path, "features"):
            if member.name != "features":
                head[member.name] = member.value
                continue
            latent = _number(path, member.value)
            found.n_pages, found.n_latents = found.n_pages + 1, max(found.n_latents, latent + 1)
            for window in _windows(path, member.value):
                found.pieces.update(map(storable, window["tokens"]))
        head = {name: head.get(name) for name in _HEAD}
        if found.head and head != found.head:
            raise ConfigError(f"{FORMAT}: {path} is of {head}, {paths[0]} of {found.head}")
        found.head = head
    if not found.n_pages:
        raise ConfigError(f"{FORMAT}: {paths[0]} holds no dashboards; expected a list `features`")
    return found


def _number(path: Path, page: Any) -> int:
    number = page.get("feature_index") if isinstance(page, dict) else None
    if not isinstance(number, int) or number < 0:
        raise ConfigError(f"{FORMAT}: {path}: a page without `feature_index`: {page!r:.60}")
    return number


def _windows(path: Path, page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    found = page.get("activations", [])
    for number, window in enumerate(found if isinstance(found, list) else [found]):
        held = window if isinstance(window, dict) else {}
        shown, values = held.get("tokens"), held.get("values")
        if not (isinstance(shown, list) and isinstance(values, list)) or (
            len(shown) != len(values)
        ):
            raise ConfigError(
                f"{FORMAT}: {path}: feature {page['feature_index']}, window {number}: expected "
                "`tokens` and `values` of one length"
            )
        yield window


def _target(lake: Lake, options: Import, survey: _Survey) -> _Target:
    """Find or make the capture, and the token of every string."""
    if len(options.hookpoints) > 1:
        raise ConfigError(f"{FORMAT}: --hookpoints names the one hookpoint of the dashboards")
    hookpoint = options.hookpoints[0] if options.hookpoints else survey.source
    model = str(options.model or survey.head.get("model_id") or "")
    capture = options.name or f"{model or FORMAT}-{survey.source}"
    held = next(iter(lake.rows("captures", where(capture=capture))), None)
    if held is None:
        tokenizer = f"strings-{digest(sorted(survey.pieces))}"
        place = Place(
            format=FORMAT, capture=capture, model=model, tokenizer=tokenizer,
            coder=str(survey.head.get("sae_set") or ""), config=survey.head,
        )  # fmt: skip
        rows = words(tokenizer, survey.pieces)
        lake.upsert("vocabulary", rows, scope={"tokenizer": tokenizer})
    else:
        place = Place(format=FORMAT, capture=capture, config={})
    settle(lake, place, {hookpoint: max(survey.n_latents, options.n_latents or 0)})
    return _of(lake, options, survey, capture, hookpoint)


def _of(lake: Lake, options: Import, survey: _Survey, capture: str, hookpoint: str) -> _Target:
    row, key = lake.capture(capture), {"capture": capture, "hookpoint": hookpoint}
    is_own = '"import": "saedashboard"' in row["config"]
    sampling = options.config.sampling
    return _Target(
        lake=lake,
        key=key,
        bucket_latents=int(lake.one("hookpoints", where(**key))["bucket_latents"]),
        sample=sample_id(lake, capture, sampling) if is_own else f"{FORMAT}-{digest(survey.head)}",
        ids=_ids(lake, row, survey.pieces),
        is_own=is_own,
    )


def _ids(lake: Lake, capture: Mapping[str, Any], pieces: set[str]) -> dict[str, int]:
    """Return the token of each string in a capture's vocabulary.

    Raises:
        ConfigError: some are no tokens of it: the dashboards are another model's.
    """
    if not capture["tokenizer"]:
        raise ConfigError(f"{FORMAT}: capture {capture['capture']} was imported without texts")
    found = tokens(lake.vocabulary(str(capture["tokenizer"])), pieces)
    strange = sorted(pieces - found.keys())
    if strange:
        raise ConfigError(
            f"{FORMAT}: {len(strange):,} of {len(pieces):,} strings are no tokens of capture "
            f"{capture['capture']}, the first {strange[0]!r}: the dashboards are of another model, "
            "or the capture's name is taken; choose another --name"
        )
    return found


def _parts(path: Path) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    for member in members(path, "features"):
        if member.name == "features":
            part.append(member.value)
        if len(part) == _LATENTS:
            yield part
            part = []
    if part:
        yield part


def _rows(target: _Target, path: Path, part: Sequence[dict[str, Any]]) -> _Rows:
    rows = _Rows()
    for page in part:
        latent, windows = _number(path, page), list(_windows(path, page))
        found = _examples(target, latent, windows)
        rows.examples += found
        rows.n_silent += len(windows) - len(found)
        if target.is_own:
            rows.latents.append(_latent(target, latent, page, len(found)))
            rows.neighbours += _neighbours(target, latent, page)
    return rows


def _examples(
    target: _Target, latent: int, windows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the windows in which a latent fires; each of a group stands for itself alone."""
    groups = _groups(windows)
    active = [w for w in windows if max(map(float, w["values"]), default=0.0) > 0]
    shown = Counter(groups[_bin(window)] for window in active)
    found = []
    for number, window in enumerate(active):
        quantile = groups[_bin(window)]
        row = _example(target, latent, window["tokens"], [float(v) for v in window["values"]])
        more = {"example": number, "quantile": quantile, "population": shown[quantile]}
        found.append(row | more)
    return found


def _bin(window: dict[str, Any]) -> tuple[float, float, float]:
    low, high, share = (float(window.get(f"bin_{n}") or 0) for n in ("min", "max", "contains"))
    return low, high, share


def _groups(windows: Sequence[dict[str, Any]]) -> dict[tuple[float, float, float], int]:
    """Number the groups of windows: 1 the strongest, then the intervals from high to low."""
    # The group of the strongest has -1 for its lower bound and for its share.
    bins = sorted({_bin(w) for w in windows}, key=lambda b: (b[2] != -1, -b[1], b[0]))
    return {found: number for number, found in enumerate(bins, start=1)}


def _example(
    target: _Target, latent: int, strings: Sequence[str], values: Sequence[float]
) -> dict[str, Any]:
    pieces = [storable(string) for string in strings]
    peak = max(range(len(values)), key=lambda i: values[i])
    text = "\0".join(pieces).encode()
    return {
        **dict.fromkeys(TABLES["examples"].columns),
        **target.key,
        "bucket": latent // target.bucket_latents,
        "sample": target.sample,
        "latent": latent,
        "role": "explain",
        "stratum": "activating",
        # Equal windows are of one document; where it stood in the corpus is not known.
        "document": int.from_bytes(blake2b(text, digest_size=8).digest(), signed=True),
        "tokens": [target.ids[piece] for piece in pieces],
        "values": list(values),
        "peak": values[peak],
        "peak_offset": peak,
    }


def _latent(target: _Target, latent: int, page: dict[str, Any], n_windows: int) -> dict[str, Any]:
    density = page.get("frac_nonzero")
    n_prompts, n_each = page.get("n_prompts_total"), page.get("n_tokens_in_prompt")
    n_tokens = n_prompts * n_each if n_prompts and n_each else None
    peaks = [max(map(float, w["values"]), default=0.0) for w in page.get("activations", [])]
    return {
        **dict.fromkeys(TABLES["latents"].columns),
        **target.key,
        "latent": latent,
        "n_activations": round(density * n_tokens) if n_tokens and density else None,
        "n_tokens": n_tokens,
        "density": density,
        "max": max(peaks, default=None),
        "histogram": _histogram(page),
        **{name: [] for name in ("quantiles", "top_tokens", "top_before", "top_after")},
        "status": "ok" if n_windows or density else "dead",
    }


def _histogram(page: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the bars; the file has their middles, all of one width."""
    middles = page.get("freq_hist_data_bar_values") or []
    heights = page.get("freq_hist_data_bar_heights") or []
    half = (middles[-1] - middles[0]) / (len(middles) - 1) / 2 if len(middles) > 1 else 0.0
    return [
        {"low": middle - half, "high": middle + half, "count": round(height)}
        for middle, height in zip(middles, heights, strict=False)
    ]


def _neighbours(target: _Target, latent: int, page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    found = zip(
        page.get("correlated_features_indices") or [],
        page.get("correlated_features_pearson") or [],
        strict=False,
    )
    others = [(other, value) for other, value in found if other != latent]
    for rank, (other, value) in enumerate(others, start=1):
        yield {
            **target.key, "latent": latent, "method": "correlation", "rank": rank,
            "neighbour": other, "similarity": value,
        }  # fmt: skip


def _put(target: _Target, rows: _Rows) -> None:
    lake, scope = target.lake, target.key
    lake.upsert("latents", rows.latents, scope=scope, spans=("latent",))
    lake.upsert("neighbours", rows.neighbours, scope=scope, spans=("latent",))
    lake.upsert("examples", rows.examples, scope=scope, spans=("bucket", "latent"))


def _lines(
    target: _Target, survey: _Survey, n_examples: int, n_silent: int, is_new: bool
) -> Iterator[str]:
    name = f"{target.key['hookpoint']} of {target.key['capture']}"
    if not is_new:
        yield f"imported nothing new: {name} holds these dashboards"
        return
    yield f"imported {n_examples:,} windows of {survey.n_pages:,} latents as {name}, to explain"
    yield (
        "a dashboard shows no texts without the latent and no corpus: nothing can be scored; "
        "output logits and neuron alignment are not kept"
    )
    if n_silent:
        yield f"left out {n_silent:,} windows in which the latent is silent"
