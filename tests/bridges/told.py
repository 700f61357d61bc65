"""A planted lake with examples, explanations by two explainers, judgements and scores."""

from __future__ import annotations

from datetime import timedelta

from lakeinterp.config import Config
from lakeinterp.lake.schema import TABLES
from lakeinterp.lake.units import sample_id
from lakeinterp.sampling import sample
from lakeinterp.terms import now
from tests import planted

SCOPE = {"capture": planted.CAPTURE, "hookpoint": planted.HOOKPOINT}
SETTINGS = Config.model_validate(
    {
        "sampling": {
            "window_tokens": 8, "n_quantiles": 3, "n_explain": 12, "n_score": 12, "n_random": 6,
            "n_explain_negatives": 6, "min_windows": 5,
        }
    }
)  # fmt: skip
LONG = "fires " + "on cats, " * 80


def lake(root):
    """Return the lake; explanation 0 of latent 0 is an older one, latent 3 has no text."""
    made = planted.planted_lake(root, n_sequences=40).lake
    sample(made, SETTINGS)
    drawn = sample_id(made, planted.CAPTURE, SETTINGS.sampling)
    said = [
        row(0, "0", "first", "default", "an older one", -60),
        row(0, "1", "second", "default", "fires on cat", 0),
        row(1, "2", "second", "default", LONG, 0),
        row(1, "3", "third", "pattern", "fires after `the`", 0),
        row(3, "4", "second", "default", None, 0),
    ]
    for one in said:
        one["sample"] = drawn
    made.upsert("explanations", said, scope=SCOPE)
    made.upsert("judgements", judged(made, drawn), scope=SCOPE)
    made.upsert("scores", [*scored("0"), *scored("1")], scope=SCOPE)
    return made


def row(latent, name, settings, explainer, text, seconds):
    """Return an explanation."""
    blank = dict.fromkeys(TABLES["explanations"].columns)
    return {
        **blank, **SCOPE, "latent": latent, "explanation": name, "explainer": explainer,
        "settings": settings, "text": text, "status": "ok" if text else "parse_failed",
        "reason": "", "reply_keys": [], "run": "r",
        "created_at": now() + timedelta(seconds=seconds),
    }  # fmt: skip


def judged(made, drawn):
    """Return judgements of latent 0's two explanations, of two settings."""
    found = []
    shown = made.rows("examples", "latent = 0 AND role = 'score'")
    blank = dict.fromkeys(TABLES["judgements"].columns)
    for explanation in ("0", "1"):
        for settings in ("old", "new"):
            for example in shown:
                number = example["example"]
                found.append(
                    {
                        **blank, **SCOPE, "latent": 0, "explanation": explanation,
                        "scorer": "fuzzing", "settings": settings, "role": "own",
                        "explained_latent": 0, "item": number, "example": number,
                        "stratum": example["stratum"], "quantile": example["quantile"],
                        "truth": example["stratum"] == "activating",
                        "prediction": None if number % 5 == 0 else number % 2 == 0,
                        "probability": 0.25, "status": "http_error" if number % 5 == 0 else "ok",
                        "reason": "", "reply_keys": [],
                    }
                )  # fmt: skip
    return found


def scored(explanation):
    """Return scores of an explanation by both settings; the new ones are newer."""
    blank = dict.fromkeys(TABLES["scores"].columns)
    return [
        {
            **blank, **SCOPE, "latent": 0, "explanation": explanation, "scorer": "fuzzing",
            "settings": settings, "metric": metric, "value": value, "n": 3, "n_failed": 1,
            "status": "ok", "run": "r", "created_at": now() + timedelta(seconds=seconds),
        }
        for settings, seconds, value in (("old", -60, 0.5), ("new", 0, 0.75))
        for metric in ("tpr", "accuracy")
    ]  # fmt: skip
