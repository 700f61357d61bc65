"""A judge of known skill on made items, to prove that scores mean what they say.

Every latent is judged anew by the same judge: over the latents one sees how often an interval
holds the true value, and whether p values are uniform.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from lakeinterp.lake import queries
from lakeinterp.lake.schema import TABLES
from lakeinterp.score.judging import ROUND_CALLS, width
from lakeinterp.score.measure import measure

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from numpy.typing import NDArray

WHO = {"capture": "made", "hookpoint": "made", "scorer": "made", "settings": "made"}
_NORMAL = NormalDist()
_GRID = 20_001


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Says 1 where a normal score is above 0; the score's mean depends on the truth.

    The score's unit variance is shared out over the call, the document and the item, so that
    items of one call or document agree more often than others.
    """

    sensitivity: float = 0.8
    """Share of the activating items called 1, over all quantiles together about this."""
    specificity: float = 0.9
    """Share of the other items called 0."""
    call: float = 0.0
    """Share of the score's variance that items of one call have in common."""
    document: float = 0.0
    """Share that items of one document have in common."""
    decline: float = 0.0
    """How far the score's mean falls from the strongest to the weakest quantile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What is judged of each latent."""

    n_latents: int = 500
    n_quantiles: int = 10
    n_each: int = 5
    """Activating items of each quantile."""
    n_random: int = 50
    prevalence: float = 0.01
    """Share of the windows in which the latent fires."""
    n_windows: int = 1_000_000
    items_per_call: int = 5
    windows_per_document: float = 2.0
    """Activating items of one document, on average."""
    n_borrowed: int = 4
    is_null: bool = False
    """Whether the own explanation says no more than a borrowed one."""
    stop_width: float = 0.0
    """As `score.adaptive_width`: items that come after the interval is as narrow are left out."""

    @property
    def n_active(self) -> int:
        """Activating items of a latent."""
        return self.n_quantiles * self.n_each

    @property
    def n(self) -> int:
        """Items of a latent."""
        return self.n_active + self.n_random


def truths(judge: Judge, items: Items) -> dict[str, float]:
    """Return the true value of every metric whose truth is known, by name."""
    p, at = items.prevalence, _means(judge, items)
    tpr, fpr = (float(v) for v in _above(at, np.zeros(1))[:, 0])
    threshold = np.linspace(6, -6, _GRID)
    hits, alarms = _above(at, threshold)
    share = np.divide(p * hits, p * hits + (1 - p) * alarms, out=np.ones_like(hits), where=hits > 0)
    area = float((np.diff(hits) * (share[1:] + share[:-1]) / 2).sum() + share[0] * hits[0])
    called = p * tpr + (1 - p) * fpr
    sampled = items.n_active * tpr / (items.n_active * tpr + items.n_random * fpr)
    return {
        "tpr": tpr,
        "fpr": fpr,
        "balanced_accuracy": (tpr + 1 - fpr) / 2,
        "reference_precision": sampled,
        "reference_f1": 2 * sampled * tpr / (sampled + tpr),
        "recall_natural": tpr,
        "precision_natural": p * tpr / called,
        "f1_natural": 2 * p * tpr / (called + p),
        "iou_natural": p * tpr / (called + p - p * tpr),
        "auroc": float((np.diff(alarms) * (hits[1:] + hits[:-1]) / 2).sum()),
        "auprc_natural": area,
    }


def ranked(tables: dict[str, pa.Table], seed: int) -> dict[str, pa.Table]:
    """Return the tables of `judged` with the judge's score as a value, without calls and labels.

    So do scorers that run a model of their own. Beside the value, nats a token, stand a text's
    losses as surprisal has them: texts of 10 to 40 tokens, 4 nats each without the explanation.
    """
    import pyarrow as pa

    rows = tables["judgements"]
    p = rows["probability"].to_numpy()
    value = np.log(p / (1 - p))
    tokens = np.random.default_rng(seed).integers(10, 41, len(value))
    detail = [
        f'{{"loss": {(4 - v) * n:.6f}, "plain": {4 * n}}}'
        for v, n in zip(value.tolist(), tokens.tolist(), strict=True)
    ]
    new = {"value": pa.array(value), "detail": pa.array(detail)}
    for name in ("prediction", "probability", "call"):
        new[name] = pa.nulls(len(rows))
    columns = [
        new.get(f.name, rows[f.name]).cast(f.type) if f.name in new else rows[f.name]
        for f in rows.schema
    ]
    return {**tables, "judgements": pa.table(columns, schema=rows.schema)}


def mean_truths(judge: Judge, items: Items) -> dict[str, float]:
    """Return the true values of the means that the tables of `ranked` give."""
    at = _means(judge, items)
    gain = float(at[:-1].mean() - at[-1])
    return {"margin": gain, "nats_saved": gain, "loss_saved": float(at[:-1].mean()) / 4}


def judged(judge: Judge, items: Items, seed: int) -> dict[str, pa.Table]:
    """Return the rows of `judgements` and `explanations` of one simulation."""
    rng = np.random.default_rng(seed)
    quantile, document = _items(items, rng)
    at = _means(judge, items)
    own = np.concatenate([np.repeat(at[:-1], items.n_each), np.full(items.n_random, at[-1])])
    parts = []
    shared = rng.standard_normal((items.n_latents, document.max() + 1))
    for other in range(items.n_borrowed + 1):
        mean = np.full(items.n, at[-1]) if other or items.is_null else own
        effect = shared if not other else rng.standard_normal(shared.shape)
        parts.append(_said(judge, items, rng, mean, effect, document))
    return _tables(items, parts, quantile, document)


def scores(
    con: duckdb.DuckDBPyConnection,
    tables: dict[str, pa.Table],
    metrics: str = "score/metrics",
    *,
    is_sequential: bool = False,
) -> pa.Table:
    """Return the rows of `scores` for the tables of `judged`, p values with them.

    With `is_sequential` their intervals hold although judging stopped early.
    """
    for name in ("macros/mix", *_macros()):
        queries.load(name).run(con)
    for name in ("judgements", "explanations", "scores"):
        table = tables.get(name, TABLES[name].schema.empty_table())
        con.register("made", table)
        con.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM made")
        con.unregister("made")
    return measure(
        con,
        metrics,
        WHO,
        latents=None,
        pooled=True,
        run="made",
        is_sequential=is_sequential,
    )


def coverage(scores: pa.Table, metric: str, truth: float) -> tuple[float, float]:
    """Return how often a metric's interval holds the truth, and the interval's mean width.

    A metric without a value has no interval and counts as holding it: it claims nothing.
    """
    import pyarrow.compute as pc

    rows = scores.filter(pc.equal(scores["metric"], metric))
    value, low, high = (
        rows[name].to_numpy().astype(float) for name in ("value", "ci_low", "ci_high")
    )
    has_value = ~np.isnan(value)
    held = ~has_value | ((low <= truth) & (truth <= high))
    wide = (high - low)[has_value].mean() if has_value.any() else 0.0
    return float(held.mean()), float(wide)


def _macros() -> list[str]:
    kinds = tuple(f"macros/{kind}" for kind in ("mixture", "ratio", "student", "w"))
    return [name for name in queries.names("macros") if name.startswith(kinds)]


def _means(judge: Judge, items: Items) -> NDArray[np.float64]:
    """Return the score's mean in each quantile, and of random items last."""
    top = _NORMAL.inv_cdf(judge.sensitivity) + judge.decline / 2
    places = np.arange(items.n_quantiles) / max(1, items.n_quantiles - 1)
    return np.append(top - judge.decline * places, -_NORMAL.inv_cdf(judge.specificity))


def _above(at: NDArray[np.float64], threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shares of activating and of random items above thresholds; shape [2, n]."""
    cdf = np.vectorize(_NORMAL.cdf)
    return np.stack([cdf(at[:-1, None] - threshold).mean(axis=0), cdf(at[-1] - threshold)])


def _items(items: Items, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the quantile of each item (0 for random ones) and its document in each latent."""
    quantile = np.repeat(np.arange(1, items.n_quantiles + 1), items.n_each)
    n_documents = max(1, round(items.n_active / items.windows_per_document))
    active = rng.integers(0, n_documents, (items.n_latents, items.n_active))
    random = n_documents + np.arange(items.n_random)
    spread = np.broadcast_to(random, (items.n_latents, items.n_random))
    document = np.concatenate([active, spread], axis=1)
    return np.append(quantile, np.zeros(items.n_random, dtype=np.int64)), document


def _said(
    judge: Judge,
    items: Items,
    rng: np.random.Generator,
    mean: NDArray[np.float64],
    effect: NDArray[np.float64],
    document: NDArray[np.int64],
) -> dict[str, NDArray[Any]]:
    """Return one explanation's score and call of every item, and whether it is left out.

    Shape [latents, items] each.
    """
    shape = (items.n_latents, items.n)
    order = rng.permuted(np.broadcast_to(np.arange(items.n), shape), axis=1)
    call = order // items.items_per_call
    of_call = rng.standard_normal((items.n_latents, int(call.max()) + 1))
    noise = np.sqrt(1 - judge.call - judge.document) * rng.standard_normal(shape)
    noise += np.sqrt(judge.call) * np.take_along_axis(of_call, call, axis=1)
    noise += np.sqrt(judge.document) * np.take_along_axis(effect, document, axis=1)
    score = mean + noise
    return {"score": score, "call": call, "left_out": _left_out(items, score > 0, call)}


def _left_out(
    items: Items, prediction: NDArray[np.bool_], call: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return the items that come after the interval is narrow enough; shape [latents, items]."""
    if not items.stop_width:
        return np.zeros(prediction.shape, dtype=bool)
    rounds = call // ROUND_CALLS
    n_rounds = int(rounds.max()) + 1
    truth = np.arange(items.n) < items.n_active
    last = np.full(items.n_latents, n_rounds - 1)
    for done in range(n_rounds - 2, -1, -1):
        seen = rounds <= done
        sides = [(seen & side & prediction, seen & side) for side in (truth, ~truth)]
        (hits, true), (alarms, false) = ((k.sum(axis=1), n.sum(axis=1)) for k, n in sides)
        counts = zip(hits.tolist(), true.tolist(), alarms.tolist(), false.tolist(), strict=True)
        last[np.array([width(*of) <= items.stop_width for of in counts])] = done
    return np.asarray(rounds > last[:, None])


def _tables(
    items: Items,
    parts: list[dict[str, NDArray[Any]]],
    quantile: NDArray[np.int64],
    document: NDArray[np.int64],
) -> dict[str, pa.Table]:
    n_latents, n, n_parts = items.n_latents, items.n, len(parts)
    latent = np.repeat(np.arange(n_latents), n)
    item = np.tile(np.arange(n), n_latents)
    cell = quantile[item]
    n_fire = round(items.prevalence * items.n_windows)
    population = np.where(cell > 0, n_fire // items.n_quantiles, items.n_windows - n_fire)
    of_cell = np.where(cell > 0, items.n_each, items.n_random)
    score = np.concatenate([part["score"].ravel() for part in parts])
    left_out = np.concatenate([part["left_out"].ravel() for part in parts])
    other = np.repeat(np.arange(n_parts), n_latents * n)
    whose = np.tile(latent, n_parts)
    explained = (whose + other) % n_latents
    every = {
        "latent": whose,
        "explanation": _names(explained),
        "role": np.where(other == 0, "own", "borrowed"),
        "explained_latent": explained,
        "item": np.tile(item, n_parts),
        "example": np.tile(item, n_parts),
        "stratum": np.tile(np.where(cell > 0, "activating", "random"), n_parts),
        "quantile": _masked(np.tile(cell, n_parts)),
        "population": np.tile(population, n_parts),
        "weight": np.tile(population / of_cell, n_parts),
        "document": np.tile(document.ravel(), n_parts),
        "call": np.concatenate([part["call"].ravel() for part in parts]),
        "truth": np.tile(cell > 0, n_parts),
        "prediction": np.ma.masked_array(score > 0, left_out),
        "probability": np.ma.masked_array(1 / (1 + np.exp(-score)), left_out),
        "status": np.where(left_out, "stopped_early", "ok"),
    }
    numbers = np.arange(n_latents)
    text = np.full(n_latents, "made")
    explanations = {
        "latent": numbers,
        "explanation": _names(numbers),
        "explainer": text,
        "settings": text,
        "sample": text,
        "status": np.full(n_latents, "ok"),
    }
    return {
        "judgements": _table("judgements", every),
        "explanations": _table("explanations", explanations),
    }


def _names(numbers: NDArray[np.int64]) -> NDArray[Any]:
    return np.char.add("e", numbers.astype(str))


def _masked(quantile: NDArray[np.int64]) -> Any:
    return np.ma.masked_equal(quantile, 0)


def _table(name: str, columns: dict[str, Any]) -> pa.Table:
    """Return columns as a table of the lake; those not given are null, or who judged."""
    import pyarrow as pa

    n_rows = len(next(iter(columns.values())))
    arrays = []
    for field in TABLES[name].schema:
        if field.name in columns:
            given = columns[field.name]
            mask = np.ma.getmaskarray(given) if np.ma.isMaskedArray(given) else None
            arrays.append(pa.array(np.ma.getdata(given), mask=mask).cast(field.type))
        elif field.name in WHO:
            arrays.append(pa.repeat(WHO[field.name], n_rows).cast(field.type))
        else:
            arrays.append(pa.nulls(n_rows, field.type))
    return pa.table(arrays, schema=TABLES[name].schema)
