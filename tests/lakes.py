"""A planted lake taken through every later step with plausible rows, for the report's tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np

from lakeinterp.lake import Lake
from lakeinterp.lake.schema import TABLES
from lakeinterp.terms import digest
from tests.planted import CAPTURE, HOOKPOINT, TOKENIZER, WORDS, planted_lake

SAMPLE = "5a3b1e0000000000"
HOSTILE_TOKENS = {
    "house": "</p><script>alert(1)</script>",
    "red": "‮evil‬",
    "blue": "\n\n    ",
    "mat": "<img src=http://evil.example/x onerror=alert(2)>",
    "that": " שלום",
    "said": "\x1b[31m\x07",
}
"""Planted word to the text it is given instead."""
HOSTILE_TEXT = (
    "fires on <b>\"quotes\"</b> & 'ticks' </summary></details><script>alert('x')</script> "
    "‮reversed⁦ {{ 7*7 }} {% raw %} \x1b]0;title\x07 https://evil.example"
)
STATUSES = {2: "dead", 3: "dense", 5: "rare"}
TOO_FEW, PARSE_FAILED, UNSCORED, HOSTILE = 4, 6, 8, 7
SCORERS = {"pattern": ("pattern",), "default": ("detection", "fuzzing")}
METRICS = (
    "balanced_accuracy",
    "tpr",
    "fpr",
    "f1_natural",
    "precision_natural",
    *(f"tpr_quantile_{q}" for q in range(1, 11)),
)
_DAY = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def scored_lake(
    root: str,
    *,
    hostile: bool = True,
    window: int = 16,
    n_quantiles: int = 5,
    n_windows: int = 4,
    **planted,
) -> Lake:
    """Write a lake with latents, examples, explanations, judgements, scores and replies.

    Latent 2 is dead, 3 dense, 5 rare; 4 has too few examples, 6 an unparsable reply of the
    `default` explainer, 7 a hostile explanation, 8 an explanation and no score; 9 has scores
    without null and interval, 10 a score of nothing but failures. All others are plain.
    """
    made = planted_lake(root, **planted)
    lake, n_latents = made.lake, made.dense.shape[1]
    rng = np.random.default_rng(5)
    if hostile:
        _hostile_vocabulary(lake)
    _describe(lake)
    _latents(lake, made, window)
    _examples(lake, made, rng, window, n_quantiles, n_windows)
    explanations = [row for i in range(n_latents) for row in _explanations_of(i)]
    _upsert(lake, "explanations", explanations)
    explained = [e for e in explanations if e["text"] is not None and e["latent"] != UNSCORED]
    _upsert(lake, "judgements", _judgements(lake, explained, rng))
    _upsert(lake, "scores", [s for e in explained for s in _scores_of(e, rng)])
    _replies(lake)
    return lake


def row(table: str, **values):
    """Return a row of a table with the columns not given set to None."""
    unknown = values.keys() - set(TABLES[table].columns)
    assert not unknown, unknown
    return {**dict.fromkeys(TABLES[table].columns), **values}


def _upsert(lake, table, rows):
    key = {"capture": CAPTURE, "hookpoint": HOOKPOINT}
    lake.upsert(table, [row(table, **{**key, **r}) for r in rows], scope=key)


def _describe(lake):
    capture = lake.capture()
    capture["config"] = json.dumps({"capture": {"n_tokens": 20_000}})
    capture["versions"] = json.dumps({"lakeinterp": "0.1.0", "torch": "2.13.0"})
    capture["created_at"] = _DAY
    lake.upsert("captures", [capture], scope={"capture": CAPTURE})
    (hookpoint,) = lake.rows("hookpoints")
    lake.upsert(
        "hookpoints",
        [{**hookpoint, "k": 4, "l0": 3.87, "explained_variance": 0.8123}],
        scope={"capture": CAPTURE},
    )


def _hostile_vocabulary(lake):
    rows = [
        {
            "tokenizer": TOKENIZER,
            "token_id": WORDS.index(word),
            "text": text,
            "bytes": text.encode(),
            "special": False,
        }
        for word, text in HOSTILE_TOKENS.items()
    ]
    lake.upsert("vocabulary", rows, scope={"tokenizer": TOKENIZER})


def _latents(lake, made, window):
    tokens, rows = made.tokens.ravel(), []
    for i in range(made.dense.shape[1]):
        values = made.dense[:, i]
        active = np.flatnonzero(values)
        ids, counts = np.unique(tokens[active], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:10]
        rows.append(
            {
                "latent": i,
                "n_activations": len(active),
                "n_windows": len(np.unique(active // window)),
                "n_documents": len(np.unique(made.documents.ravel()[active])),
                "n_tokens": len(values),
                "density": len(active) / len(values),
                "max": float(values.max()) if len(active) else None,
                "mean": float(values[active].mean()) if len(active) else None,
                "top_tokens": [
                    {"token_id": int(ids[j]), "count": int(counts[j]), "pmi": 1.0} for j in order
                ],
                "single_token": float(counts.max() / counts.sum()) if len(active) else None,
                "status": STATUSES.get(i, "ok"),
            }
        )
    _upsert(lake, "latents", rows)


def _examples(lake, made, rng, window, n_quantiles, n_windows):
    tokens = made.tokens.ravel()[: len(made.dense) // window * window].reshape(-1, window)
    documents, rows = made.documents.ravel(), []
    (hookpoint,) = lake.rows("hookpoints")
    for i in range(made.dense.shape[1]):
        values = made.dense[: tokens.size, i].reshape(-1, window)
        peaks = values.max(axis=1)
        ranked = np.argsort(-peaks, kind="stable")
        ranked, silent = ranked[peaks[ranked] > 0], np.flatnonzero(peaks == 0)
        number = 0
        for role in ("explain", "score") if len(ranked) >= 20 and i not in (4,) else ():
            chosen = [
                ("activating", q + 1, w)
                for q, group in enumerate(np.array_split(ranked, n_quantiles))
                for w in rng.choice(group, min(n_windows, len(group)), replace=False)
            ]
            chosen += [("random", None, w) for w in rng.choice(silent, min(8, len(silent)))]
            for stratum, quantile, w in chosen:
                start = int(w) * window
                peak = float(peaks[w])
                rows.append(
                    {
                        "bucket": i // hookpoint["bucket_latents"],
                        "sample": SAMPLE,
                        "latent": i,
                        "example": number,
                        "role": role,
                        "stratum": stratum,
                        "quantile": quantile,
                        "document": int(documents[start + 1]),
                        "start": start,
                        "tokens": tokens[w].tolist(),
                        "values": values[w].tolist(),
                        "peak": peak,
                        "peak_offset": int(values[w].argmax()) if quantile else None,
                        "population": 100,
                    }
                )
                number += 1
    _upsert(lake, "examples", rows)


def _explanations_of(latent):
    if STATUSES.get(latent) in ("dead", "rare"):
        return
    for explainer in SCORERS:
        text, status, reason, keys = f"the word {latent} and what follows it", "ok", "", []
        if latent == HOSTILE:
            text = HOSTILE_TEXT
        if explainer == "default":
            text, keys = text.replace("the word", "mentions of"), [f"explain-{latent % 5}"]
        if latent == TOO_FEW:
            text, status, reason = None, "too_few_examples", "found 3 activating windows, need 20"
        if latent == PARSE_FAILED and explainer == "default":
            text, status, reason = None, "parse_failed", "no explanation in the <reply>"
        if latent == 0:
            text = "` cat`" if explainer == "pattern" else "the animal “cat”"
        yield {
            "latent": latent,
            "explanation": digest([latent, explainer]),
            "explainer": explainer,
            "settings": "s1",
            "prompt": "p1",
            "sample": SAMPLE,
            "text": text,
            "status": status,
            "reason": reason,
            "reply_keys": keys,
            "created_at": _DAY,
        }


def _judgements(lake, explained, rng):
    by_latent = {}
    for e in lake.rows("examples"):
        if e["role"] == "score":
            by_latent.setdefault(e["latent"], []).append(e)
    for explanation in explained:
        for scorer in SCORERS[explanation["explainer"]]:
            for item, example in enumerate(by_latent.get(explanation["latent"], [])):
                truth = example["stratum"] == "activating"
                failed = item % 23 == 6
                yield {
                    "latent": explanation["latent"],
                    "explanation": explanation["explanation"],
                    "scorer": scorer,
                    "settings": "s1",
                    "role": "own",
                    "explained_latent": explanation["latent"],
                    "item": item,
                    "example": example["example"],
                    "stratum": example["stratum"],
                    "quantile": example["quantile"],
                    "population": 100,
                    "call": item // 5,
                    "truth": truth,
                    "prediction": None if failed else bool(truth ^ (rng.random() < 0.15)),
                    "status": "parse_failed" if failed else "ok",
                    "reason": "",
                    "reply_keys": [] if scorer == "pattern" else [f"judge-{item // 5}"],
                }


def _scores_of(explanation, rng):
    latent = explanation["latent"]
    for scorer in SCORERS[explanation["explainer"]]:
        for k, metric in enumerate(METRICS):
            value = 0.98 if latent == 0 else float(np.clip(rng.normal(0.75, 0.12), 0.3, 0.99))
            null, half = float(np.clip(rng.normal(0.5, 0.04), 0, 1)), 0.08
            score = {
                "value": value,
                "ci_low": max(0.0, value - half),
                "ci_high": min(1.0, value + half),
                "n": 28 if k == 0 else 14,
                "n_failed": 1 if latent % 3 else 0,
                "null_value": null,
                "corrected": (value - null) / (1 - null),
                "p_value": 0.0004 if value > 0.7 else 0.21,
                "status": "ok",
            }
            if latent == 9:
                score |= dict.fromkeys(("ci_low", "ci_high", "null_value", "corrected", "p_value"))
            if latent == 10:
                score = {**dict.fromkeys(score), "n": 0, "n_failed": 28, "status": "http_error"}
            yield {
                "latent": latent,
                "explanation": explanation["explanation"],
                "scorer": scorer,
                "settings": "s1",
                "metric": metric,
                "created_at": _DAY,
                **score,
            }


def _replies(lake):
    rows = [
        row(
            "replies",
            key=key,
            request="{}",
            text="yes",
            model_requested="hosted_vllm/tiny",
            model_served="tiny-judge" if key.startswith("judge") else "tiny-explainer",
            route="judge",
            prompt_tokens=100,
            completion_tokens=10,
            cost_usd=None if state == "unknown" else (0.001 if state == "priced" else 0.0),
            cost_state=state,
            attempts=1,
            status="ok",
            created_at=_DAY,
        )
        for key, state in [(f"explain-{i}", "priced") for i in range(5)]
        + [(f"judge-{i}", ("priced", "free", "unknown")[i % 3]) for i in range(8)]
    ]
    lake.upsert("replies", rows, scope={})
