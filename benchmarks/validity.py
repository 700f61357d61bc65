"""Do scores mean what they say? Simulations with a judge of known skill, as tables.

    PYTHONPATH=. python benchmarks/validity.py [--latents 1000] [--seeds 40] [--only covered]
        [--record FILE]

The judge's answers pass through the same SQL as real ones. Tables: how often 95 % intervals hold
the true value, with items that share calls and documents; the same of scorers that rank windows by
a value, among them ten windows a document of correlation 0.8; p values of explanations that say
nothing; weights under every way of drawing windows, by the real sampler on a made lake; what an
over-broad and an over-narrow explanation score; the figures of the tool delphi from the same
judgements; intervals when judging stops early.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any, get_args

import duckdb
import numpy as np
import pyarrow as pa

from lakeinterp.config.sampling import Draw
from lakeinterp.lake import queries
from lakeinterp.score.judging import mixture
from tests.planted import planted_lake
from tests.score.simulated import (
    Items,
    Judge,
    coverage,
    judged,
    mean_truths,
    ranked,
    scores,
    truths,
)  # fmt: skip
from tests.score.verdicts import drawn, exact, judgements

COVERED = (
    "balanced_accuracy",
    "tpr",
    "fpr",
    "reference_f1",
    "precision_natural",
    "f1_natural",
    "iou_natural",
    "auroc",
    "auprc_natural",
)
SKILLS = ((0.8, 0.9), (0.6, 0.7), (0.95, 0.98))
SHARED = ((0.0, 0.0), (0.2, 0.0), (0.0, 0.4), (0.2, 0.3))
PREVALENCES = (1e-4, 1e-2, 0.3)
Rows = list[list[str]]


def covered(con: duckdb.DuckDBPyConnection, n_latents: int) -> Rows:
    """How often each metric's 95 % interval holds the true value, and its mean width."""
    rows = [["prevalence", "sens.", "spec.", "call", "document", *COVERED]]
    lowest = dict.fromkeys(COVERED, 1.0)
    settings = product(PREVALENCES, SKILLS, SHARED)
    for seed, (prevalence, (sens, spec), (call, document)) in enumerate(settings, start=100):
        judge = Judge(sensitivity=sens, specificity=spec, call=call, document=document, decline=1)
        items = Items(
            n_latents=n_latents, prevalence=prevalence, windows_per_document=3, n_borrowed=1
        )
        found, known = scores(con, judged(judge, items, seed)), truths(judge, items)
        held = {metric: coverage(found, metric, known[metric]) for metric in COVERED}
        for metric, (share, _) in held.items():
            lowest[metric] = min(lowest[metric], share)
        setting = [f"{v:g}" for v in (prevalence, sens, spec, call, document)]
        rows.append([*setting, *(f"{s:.3f} ({w:.2f})" for s, w in held.values())])
    return [*rows, ["lowest", "", "", "", "", *(f"{lowest[m]:.3f}" for m in COVERED)]]


def ordered(con: duckdb.DuckDBPyConnection, n_latents: int) -> Rows:
    """How often intervals of scorers that rank windows hold the truth when documents are shared."""
    metrics = {
        "score/surprisal": ("auroc", "auprc_natural", "nats_saved", "loss_saved"),
        "score/example_embedding": ("margin",),
    }
    names = [name for of in metrics.values() for name in of]
    rows = [["windows a document", "correlation", "sens.", "spec.", *names]]
    lowest = dict.fromkeys(names, 1.0)
    shares = ((2, 0.0), (3, 0.4), (5, 0.8), (10, 0.3), (10, 0.8))
    for seed, ((shared, document), (sens, spec)) in enumerate(product(shares, SKILLS[:2]), 300):
        judge = Judge(sensitivity=sens, specificity=spec, document=document, decline=1)
        items = Items(n_latents=n_latents, windows_per_document=shared, n_borrowed=0)
        tables = ranked(judged(judge, items, seed), seed)
        known = {**truths(judge, items), **mean_truths(judge, items)}
        held = {}
        for statement, of in metrics.items():
            found = scores(con, tables, statement)
            held |= {name: coverage(found, name, known[name]) for name in of}
        for name, (share, _) in held.items():
            lowest[name] = min(lowest[name], share)
        setting = [f"{v:g}" for v in (shared, document, sens, spec)]
        rows.append([*setting, *(f"{s:.3f} ({w:.2f})" for s, w in held.values())])
    return [*rows, ["lowest", "", "", "", *(f"{lowest[name]:.3f}" for name in names)]]


def uniform(con: duckdb.DuckDBPyConnection, n_latents: int) -> Rows:
    """Shares of p values at and below some levels, of explanations that say nothing."""
    levels = (0.01, 0.05, 0.1, 0.5, 0.9)
    rows = [["metric", *(f"p <= {level}" for level in levels)]]
    items = Items(n_latents=n_latents, is_null=True)
    found = scores(con, judged(Judge(specificity=0.5, call=0.2), items, 7)).to_pylist()
    for metric in ("balanced_accuracy", "auroc", "f1_natural", "auprc_natural"):
        p = np.array([r["p_value"] for r in found if r["metric"] == metric], dtype=float)
        rows.append([metric, *(f"{(p <= level).mean():.3f}" for level in levels)])
    return rows


def weighted(con: duckdb.DuckDBPyConnection, n_seeds: int) -> Rows:
    """Estimates from windows drawn in every way, against all windows of the role."""
    metrics = ("recall_natural", "precision_natural", "f1_natural")
    rows = [["draw", "estimates", *(f"{m}: mean error ± se (held)" for m in metrics)]]
    with tempfile.TemporaryDirectory() as folder:
        lake = planted_lake(str(Path(folder) / "lake"), n_sequences=300, n_buckets=1).lake
        whole = {seed: drawn(lake, "random", 10**6, seed) for seed in range(n_seeds)}
        for how in get_args(Draw):
            errors: dict[str, list[float]] = {metric: [] for metric in metrics}
            held: dict[str, list[bool]] = {metric: [] for metric in metrics}
            for seed in range(n_seeds):
                known = exact(whole[seed])
                for row in scores(con, judgements(drawn(lake, how, 40, seed))).to_pylist():
                    if row["metric"] in metrics and row["value"] is not None:
                        true = known[row["latent"]][row["metric"]]
                        errors[row["metric"]].append(row["value"] - true)
                        held[row["metric"]].append(row["ci_low"] <= true <= row["ci_high"])
            said = [_error(errors[metric], held[metric]) for metric in metrics]
            rows.append([how, str(len(errors["recall_natural"])), *said])
    return rows


def _error(errors: list[float], held: list[bool]) -> str:
    if not errors:
        return "no value"
    error = np.std(errors, ddof=1) / np.sqrt(len(errors))
    return f"{np.mean(errors):+.4f} ± {error:.4f} ({np.mean(held):.3f})"


def compared(con: duckdb.DuckDBPyConnection, n_latents: int) -> Rows:
    """What too broad and too narrow explanations score, by our metrics and by delphi's."""
    kinds = {
        "right": Judge(sensitivity=0.9, specificity=0.995),
        "over-broad": Judge(sensitivity=0.99, specificity=0.88),
        "any text": Judge(sensitivity=1 - 1e-9, specificity=1e-9),
        "over-narrow": Judge(sensitivity=0.35, specificity=0.9999),
    }
    ours = ("balanced_accuracy", "auroc", "precision_natural", "f1_natural", "auprc_natural")
    theirs = ("balanced_accuracy", "f1", "weighted_f1", "auroc")
    rows = [["explanation", *ours, *(f"reference_{name}" for name in theirs), "by hand"]]
    items = Items(n_latents=n_latents, prevalence=0.002, n_random=200, n_borrowed=0)
    for seed, (name, judge) in enumerate(kinds.items(), start=3):
        tables = judged(judge, items, seed)
        found = scores(con, tables).to_pylist()
        means = [np.mean([r["value"] for r in found if r["metric"] == metric]) for metric in ours]
        reference = _reference(con, n_latents)
        reckoned = _by_hand(tables["judgements"])
        agree = all(abs(reference[f"reference_{k}"] - v) < 1e-12 for k, v in reckoned.items())
        shown = [f"{reference[f'reference_{k}']:.3f}" for k in theirs]
        rows.append([name, *(f"{m:.3f}" for m in means), *shown, "equal" if agree else "DIFFERS"])
    return rows


def _reference(con: duckdb.DuckDBPyConnection, n_latents: int) -> dict[str, Any]:
    con.execute(
        "CREATE OR REPLACE TABLE latents AS SELECT 'made' AS capture, 'made' AS hookpoint, "
        "i::INTEGER AS latent, 1 + i AS n_activations FROM range($n) AS r(i)",
        {"n": n_latents},
    )
    who = {"capture": "made", "explainer": "made", "made": "made"}
    who |= {"scorer": "made", "settings": "made", "hookpoints": []}
    (row,) = queries.load("report/reference").table(con, **who).to_pylist()
    return dict(row)


def _by_hand(judgements: pa.Table) -> dict[str, float]:
    """Return delphi's figures: confusion counts of all latents pooled, F1 weighted by firings."""
    truth, said, p, latent = (
        judgements[name].to_numpy() for name in ("truth", "prediction", "probability", "latent")
    )
    truth, said = truth.astype(bool), said.astype(bool)

    def f1(mine: Any) -> float:
        hits = (truth & said & mine).sum()
        return float(2 * hits / max(1, (truth & mine).sum() + (said & mine).sum()))

    weight = 1 + np.arange(latent.max() + 1)
    each = [f1(latent == i) for i in range(len(weight))]
    order = np.argsort(np.argsort(p))
    n, n_true = len(p), truth.sum()
    area = (order[truth].sum() - n_true * (n_true - 1) / 2) / (n_true * (n - n_true))
    return {
        "balanced_accuracy": float((said[truth].mean() + 1 - said[~truth].mean()) / 2),
        "f1": f1(np.ones_like(truth)),
        "weighted_f1": float(np.average(each, weights=weight)),
        "auroc": float(area),
    }


def stopped(con: duckdb.DuckDBPyConnection, n_latents: int) -> Rows:
    """Coverage when judging stops as soon as the interval of balanced accuracy is narrow."""
    metrics = ("tpr", "fpr", "balanced_accuracy", "f1_natural", "auprc_natural")
    rows = [["call", "stop at", "items judged of 200", "interval", *metrics]]
    for seed, (call, stop) in enumerate(product((0.0, 0.2), (0.15, 0.2, 0.3)), start=5):
        judge = Judge(call=call, document=call)
        items = Items(
            n_latents=n_latents, n_quantiles=5, n_each=20, n_random=100, n_borrowed=0,
            stop_width=stop,
        )  # fmt: skip
        tables, known = judged(judge, items, seed), truths(judge, items)
        n = sum(s == "ok" for s in tables["judgements"]["status"].to_pylist()) / n_latents
        for name, is_sequential in (("sequence", True), ("Wilson", False)):
            found = scores(con, tables, is_sequential=is_sequential)
            held = [coverage(found, metric, known[metric]) for metric in metrics]
            rows.append([f"{call:g}", f"{stop:g}", f"{n:.0f}", name])
            rows[-1] += [f"{s:.3f} ({w:.2f})" for s, w in held]
    return rows


def peeked(con: duckdb.DuckDBPyConnection, n_runs: int) -> Rows:
    """How often the interval of a share misses at some n from 10 to 500: the worst stopping."""
    rows = [["share", "sequence ever misses", "Wilson ever misses"]]
    for p in (0.05, 0.3, 0.5, 0.9):
        hits = np.cumsum(np.random.default_rng(1).random((n_runs, 500)) < p, axis=1)
        n = np.arange(1, 501)
        table = con.execute(
            "SELECT n, k, wilson_low(k, n), wilson_high(k, n) "
            "FROM range(10, 501) AS a(n), range(0, 501) AS b(k) WHERE k <= n"
        ).fetchall()
        bad = np.zeros((2, 501, 501), dtype=bool)
        for size, k, low, high in table:
            least, most = mixture(k, size)
            bad[:, size, k] = not least <= p <= most, not low <= p <= high
        missed = bad[:, n, hits].any(axis=2).mean(axis=1)
        rows.append([f"{p:g}", *(f"{m:.3f}" for m in missed)])
    return rows


def main() -> None:
    """Run every simulation and print its table, as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--latents", type=int, default=1000, help="simulated latents a setting")
    parser.add_argument("--seeds", type=int, default=40, help="draws of each kind")
    parser.add_argument("--record", type=Path, help="file to which the tables are appended")
    parser.add_argument("--only", nargs="+", default=[], help="names of tables, as covered")
    given = parser.parse_args()
    con = duckdb.connect()
    for make, size in (
        (covered, given.latents), (ordered, given.latents), (uniform, 2 * given.latents),
        (weighted, given.seeds), (compared, given.latents // 4), (stopped, given.latents),
        (peeked, given.latents),
    ):  # fmt: skip
        if given.only and make.__name__ not in given.only:
            continue
        began = time.process_time()
        text = _markdown(make.__doc__ or "", make(con, size), time.process_time() - began)
        print(text, flush=True)
        if given.record:
            with given.record.open("a", encoding="utf-8") as file:
                file.write(text + "\n")


def _markdown(title: str, rows: Rows, seconds: float) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join([f"\n## {title.splitlines()[0]}\n", *lines, f"\n{seconds:.0f} s of CPU time."])


if __name__ == "__main__":
    main()
