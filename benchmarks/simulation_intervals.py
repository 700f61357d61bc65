"""How often the intervals of `sql/score/simulation.sql` hold the truth.

Corpora of known truth: every document has two windows that are predicted equally well or badly,
so that tokens are far from independent. The truth is the value over very many documents. Beside
the intervals stands Fisher's z for as many independent tokens, which is what one would take who
forgets the documents.

    PYTHONPATH=. python benchmarks/simulation_intervals.py --corpora 2000
"""

from __future__ import annotations

import argparse
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from lakeinterp.lake import queries

TOKENS = 24
METRICS = (
    "correlation",
    "correlation_centred",
    "correlation_window",
    "r_squared",
    "deviation_explained",
)


def corpus(rng: np.random.Generator, n_documents: int) -> tuple[np.ndarray, np.ndarray]:
    """Return measured and predicted activations; shape [documents, 2, tokens] each."""
    shape = (n_documents, 2, TOKENS)
    fires = rng.random(shape) < 0.15
    fires[..., 0] |= ~fires.any(axis=-1)
    measured = np.where(fires, rng.gamma(2.0, 2.0, shape), 0.0)
    noise = rng.choice([0.3, 3.0], size=(n_documents, 1, 1))
    predicted = np.clip(np.round(measured + noise * rng.normal(size=shape)), 0, 10)
    return measured, predicted


def estimates(
    con: duckdb.DuckDBPyConnection, corpora: list[tuple[np.ndarray, np.ndarray]]
) -> list[dict[str, Any]]:
    """Return value and limits by metric, for each corpus."""
    items, examples, explanations = [], [], []
    for latent, (measured, predicted) in enumerate(corpora):
        me = {"latent": latent, "explanation": f"e{latent}"}
        place = {"capture": "c", "hookpoint": "h", "sample": "s"}
        explanations.append({**place, "explanation": me["explanation"]})
        for item in range(2 * len(measured)):
            document, window = divmod(item, 2)
            values = predicted[document, window].tolist()
            items.append({**me, "item": item, "example": item, "values": values})
            values = measured[document, window].tolist()
            of = {"latent": latent, "example": item, "document": document, "values": values}
            examples.append({**place, **of})
    for name, rows in (("i", items), ("e", examples), ("x", explanations)):
        con.register(name, pa.Table.from_pylist(rows))
    con.execute(
        "CREATE OR REPLACE TEMP TABLE items AS SELECT *, 'own' AS role, true AS is_judged, "
        "false AS has_failed FROM i"
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE examples AS SELECT *, 'score' AS role, 'activating' AS "
        "stratum, 1 AS quantile, 10::BIGINT AS population, NULL::DOUBLE AS weight FROM e"
    )
    con.execute("CREATE OR REPLACE TEMP TABLE explanations AS SELECT * FROM x")
    found: list[dict[str, Any]] = [{} for _ in corpora]
    for row in queries.load("score/simulation").table(con).to_pylist():
        found[row["latent"]][row["metric"]] = row
    return found


def fisher_holds(measured: np.ndarray, predicted: np.ndarray, truth: float) -> bool:
    """Return whether Fisher's interval for independent tokens holds the truth."""
    z = np.arctanh(np.corrcoef(measured.ravel(), predicted.ravel())[0, 1])
    return bool(abs(z - np.arctanh(truth)) <= 1.959964 / np.sqrt(measured.size - 3))


def main() -> None:
    """Print a table of coverage by metric and number of documents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpora", type=int, default=2000)
    parser.add_argument("--documents", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    with duckdb.connect() as con:
        for name in ("macros/mix", "macros/student"):
            queries.load(name).run(con)
        (large,) = estimates(con, [corpus(rng, 20_000)])
        truth = {name: large[name]["value"] for name in METRICS}
        print("truth  ", "  ".join(f"{name} {value:.3f}" for name, value in truth.items()))
        print("| documents | " + " | ".join(METRICS) + " | Fisher, tokens | no interval |")
        print("|--:" * (len(METRICS) + 3) + "|")
        for n_documents in asked.documents:
            held, fisher, n_none = dict.fromkeys(METRICS, 0), 0, 0
            for _ in range(asked.corpora // 100):
                made = [corpus(rng, n_documents) for _ in range(100)]
                for (measured, predicted), found in zip(made, estimates(con, made), strict=True):
                    for name in METRICS:
                        row = found[name]
                        n_none += row["ci_low"] is None
                        if row["ci_low"] is not None:
                            held[name] += row["ci_low"] <= truth[name] <= row["ci_high"]
                    fisher += fisher_holds(measured, predicted, truth["correlation"])
            n = asked.corpora // 100 * 100
            shares = " | ".join(f"{held[name] / n:.3f}" for name in METRICS)
            print(f"| {n_documents} | {shares} | {fisher / n:.3f} | {n_none} |")


if __name__ == "__main__":
    main()
