"""Results of a delphi run into the lake: its items are judgements, its figures are computed anew.

Nothing that delphi computed is taken over. Texts stay with the judgement they belong to, since they
are strings without a place in a corpus; so no score has a value at natural prevalence.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lakeinterp.bridges.base import Imported
from lakeinterp.bridges.delphi import results
from lakeinterp.bridges.places import Place, settle
from lakeinterp.errors import NotFound
from lakeinterp.fingerprint import fingerprint
from lakeinterp.lake import where
from lakeinterp.terms import digest, json_text, now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lakeinterp.bridges.base import Import, Progress
    from lakeinterp.bridges.delphi.results import Item, Key, Run
    from lakeinterp.lake import Lake

EXPLAINER = "delphi"
FORMAT = "delphi-results"
_LATENTS = 200
"""Latents that are written and measured in one go."""


def import_results(lake: Lake, options: Import, *, progress: Progress | None = None) -> Imported:
    """Read explanations and scores of a run; files that were read before are not read again.

    Args:
        lake: The lake.
        options: `path` is the folder of a run; `name` a capture, perhaps of its cache.
        progress: Called after each piece with the latents done.

    Raises:
        ConfigError: the folder holds no results, a file does not fit, or a capture of this name
            has no such latents.
        NotFound: there is no such folder or hookpoint.
    """
    run = results.find(options.path)
    keys = _wanted(run, options)
    capture = options.name or _name(run)
    widths: dict[str, int] = {}
    for key in keys:
        widths[key.hookpoint] = max(
            widths.get(key.hookpoint, options.n_latents or 0), key.latent + 1
        )
    place = Place(
        format=FORMAT, capture=capture, model=str(options.model or run.config.get("model", "")),
        coder=str(run.config.get("sparse_model", "")), config={"run_config": run.config},
    )  # fmt: skip
    settle(lake, place, widths)
    counts: Counter[str] = Counter()
    for done, part in _parts(keys):
        _write(lake, capture, run, part, options, counts)
        if progress:
            progress(done=done, total=len(keys))
    return Imported(
        capture, tuple(sorted(widths)), 0, counts["items"], 0, bool(counts["latents"]),
        tuple(_lines(run, capture, counts)),
    )  # fmt: skip


def _wanted(run: Run, options: Import) -> list[Key]:
    known = {key.hookpoint for key in run.keys}
    for name in options.hookpoints:
        if name not in known:
            raise NotFound("hookpoint", name, known, hint=f"in {run.root}")
    return [key for key in run.keys if key.hookpoint in (options.hookpoints or known)]


def _name(run: Run) -> str:
    names = sorted({key.hookpoint for key in run.keys})
    return f"{run.root.name}-delphi-{digest([names, run.config], size=4)}"


def _parts(keys: Sequence[Key]) -> Iterator[tuple[int, list[Key]]]:
    done = 0
    for _, inside in groupby(keys, key=lambda key: key.hookpoint):
        together = list(inside)
        for first in range(0, len(together), _LATENTS):
            part = together[first : first + _LATENTS]
            done += len(part)
            yield done, part


def _write(
    lake: Lake, capture: str, run: Run, keys: Sequence[Key], options: Import, counts: Counter[str]
) -> None:
    """Write what a run says of some latents of a hookpoint, once."""
    paths = [
        files[k] for files in (run.explanations, *run.scores.values()) for k in keys if k in files
    ]
    app = f"import/{capture}/{digest([fingerprint(path) for path in paths])}"
    if lake.committed("explanations", app):
        return
    hookpoint = keys[0].hookpoint
    scope = {"capture": capture, "hookpoint": hookpoint}
    said = [_explanation(scope, run, key) for key in keys]
    lake.upsert("explanations", said, scope=scope, spans=("latent",))
    ids = {row["latent"]: row["explanation"] for row in said}
    for scorer, files in run.scores.items():
        rows = [
            _judgement(scope, run, scorer, key.latent, ids[key.latent], number, item)
            for key in keys
            if key in files
            for number, item in enumerate(results.items(files[key]))
        ]
        lake.upsert("judgements", rows, scope=scope, spans=("latent",))
        counts["items"] += len(rows)
        counts["failed"] += sum(row["prediction"] is None for row in rows)
        counts["contradicted"] += sum('"is_contradicted"' in row["detail"] for row in rows)
        _measure(lake, scope, run, scorer, [key.latent for key in keys if key in files], options)
    counts["latents"] += len(keys)
    counts["explained"] += sum(row["status"] == "ok" for row in said)
    lake.publish("explanations", [], app=app, version=1)


def _explanation(scope: dict[str, str], run: Run, key: Key) -> dict[str, Any]:
    path = run.explanations.get(key)
    found = results.explanation(path) if path else results.Said("", None)
    status = "ok" if found.text else "parse_failed" if path else "not_applicable"
    reason = {
        "ok": "",
        "parse_failed": f"delphi stored {found.stored[:80]!r}",
        "not_applicable": "the run holds scores of this latent and no explanation",
    }
    settings = _settings(run)
    return {
        **scope,
        "latent": key.latent,
        # Files that were made anew are of another explanation, even of the same words.
        "explanation": digest(
            [*scope.values(), key.latent, settings, found.stored, *_judged(run, key)]
        ),
        "explainer": EXPLAINER,
        "settings": settings,
        "prompt": None,
        "sample": "",
        "text": found.text,
        "status": status,
        "reason": reason[status],
        "detail": json_text({"stored": found.stored} if path else None),
        "reply_keys": [],
        "run": f"import-{settings}",
        "created_at": now(),
    }


def _judged(run: Run, key: Key) -> list[str]:
    return [fingerprint(files[key]) for files in run.scores.values() if key in files]


def _settings(run: Run) -> str:
    return digest([EXPLAINER, run.config])


def _judgement(
    scope: dict[str, str], run: Run, scorer: str, latent: int, explanation: str, number: int,
    item: Item,
) -> dict[str, Any]:  # fmt: skip
    detail: dict[str, Any] = {
        "str_tokens": item.pieces, "activations": item.values, "distance": item.distance,
    }  # fmt: skip
    if item.is_contradicted:
        detail["is_contradicted"] = True
    has_failed = item.prediction is None
    return {
        **scope,
        "latent": latent,
        "explanation": explanation,
        "scorer": results.SCORERS.get(scorer, scorer),
        "settings": _settings(run),
        "role": "own",
        "explained_latent": latent,
        "item": number,
        "example": None,
        "stratum": _stratum(run, item),
        "quantile": int(item.distance) + 1 if item.truth and item.distance >= 0 else None,
        "population": None,
        "weight": None,
        "document": None,
        "call": None,
        "truth": item.truth,
        "prediction": item.prediction,
        "probability": item.probability,
        "value": None,
        "values": None,
        "detail": json_text(detail),
        "status": "parse_failed" if has_failed else "ok",
        "reason": "delphi stored no prediction: the call or its reading failed"
        if has_failed
        else "",
        "reply_keys": [],
    }


def _stratum(run: Run, item: Item) -> str:
    if item.truth:
        return "activating"
    return run.negatives if item.distance == -1 else "neighbour"


def _measure(
    lake: Lake,
    scope: dict[str, str],
    run: Run,
    scorer: str,
    latents: Sequence[int],
    options: Import,
) -> None:
    """Compute the scores of some latents from the judgements, as of any other scorer."""
    from lakeinterp.score.measure import measure

    if not latents:
        return
    key = mine = where(**scope)
    mine += f" AND latent >= {min(latents)} AND latent <= {max(latents)}"
    who = {**scope, "scorer": results.SCORERS.get(scorer, scorer), "settings": _settings(run)}
    with lake.connect(explanations=key, judgements=mine, scores=mine) as con:
        rows = measure(
            con, "score/metrics", who, latents=latents, pooled=False, is_natural=False,
            run=f"import-{_settings(run)}", max_failed=options.config.score.max_failed,
        )  # fmt: skip
    lake.upsert("scores", rows, scope=scope, spans=("latent",))


def _lines(run: Run, capture: str, counts: Counter[str]) -> Iterator[str]:
    if not counts["latents"]:
        yield f"imported nothing new: {capture} holds these results"
        return
    yield (
        f"imported {counts['explained']:,} explanations of {counts['latents']:,} latents and "
        f"{counts['items']:,} judged texts as {capture}; its scores are computed anew"
    )
    if counts["failed"]:
        yield f"{counts['failed']:,} texts have no prediction: they count as failed, not as wrong"
    if counts["contradicted"]:
        yield f"of {counts['contradicted']:,} texts the file says `correct` and means otherwise"
    if counts["latents"] > counts["explained"]:
        yield f"{counts['latents'] - counts['explained']:,} latents have no explanation in it"
    for scorer, n_files in run.left_out.items():
        yield f"left out scores/{scorer}: {n_files:,} files whose items are no true or false calls"
