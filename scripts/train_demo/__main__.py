"""Train the demo's assets: a tokenizer, a tiny language model, two sparse coders, their card.

Reads the standard library through `lakeinterp.demo.corpus`; writes `lakeinterp/demo/`. A stage
reads what the stages before it wrote, so each can be redone alone:

    python -m scripts.train_demo all
    python -m scripts.train_demo coders card

Every figure of the card is measured here and kept in `figures.json`. Two CPU cores need about
an hour. The seed fixes every draw; other machines still round differently, so they end with
other weights of the same quality.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from lakeinterp.demo import CODER_DIR
from scripts.train_demo.card import write_card
from scripts.train_demo.coders import CODERS, activations, save_coder, train_coder
from scripts.train_demo.measure import measure_coder
from scripts.train_demo.model import load_model, train_model
from scripts.train_demo.text import ModelRecipe, pack, token_documents, train_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable


def train_coders(seed: int) -> None:
    """Train, save and measure both coders."""
    model = load_model()
    train_BT, heldout_BT = pack(token_documents("train")), pack(token_documents("heldout"))
    started = time.monotonic()
    seen = activations(model, train_BT, CODERS)
    capture_seconds = time.monotonic() - started
    for recipe in CODERS:
        started = time.monotonic()
        generator = torch.Generator().manual_seed(seed)
        save_coder(train_coder(recipe, *seen[recipe.hookpoint], generator), recipe)
        report = {
            "recipe": asdict(recipe),
            "train_tokens": len(seen[recipe.hookpoint][0]),
            "seconds": round(time.monotonic() - started),
            "capture_seconds": round(capture_seconds),
        }
        report |= measure_coder(recipe, model, heldout_BT)
        path = CODER_DIR / recipe.hookpoint / "report.json"
        path.write_text(json.dumps(report, indent=1) + "\n")
        print(json.dumps(report, indent=1), flush=True)


STAGES: dict[str, Callable[[int], None]] = {
    "tokenizer": lambda _seed: train_tokenizer(ModelRecipe().vocabulary),
    "model": lambda seed: train_model(ModelRecipe(), seed),
    "coders": train_coders,
    "card": write_card,
}


def main() -> None:
    """Run the stages named on the command line, in their order."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="+", choices=[*STAGES, "all"], metavar="stage")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name, stage in STAGES.items():
        if name in arguments.stages or "all" in arguments.stages:
            print(f"== {name}", flush=True)
            stage(arguments.seed)


if __name__ == "__main__":
    main()
