"""A tiny language model and two sparse coders, trained on the Python standard library.

The folders named here ship with the package, so the whole pipeline runs without a download.
`corpus` yields the texts, `CARD.md` says what the weights are and what was measured on them,
and `scripts/train_demo` makes every file again.
"""

from pathlib import Path

DEMO_DIR = Path(__file__).parent
"""The folder holding every asset."""
MODEL_DIR = DEMO_DIR / "model"
"""A Hugging Face model folder: weights, config and tokenizer."""
CODER_DIR = DEMO_DIR / "coders"
"""Sparse coders in EleutherAI's layout: one folder a hookpoint."""
CARD = DEMO_DIR / "CARD.md"
"""The model card."""
FIGURES = DEMO_DIR / "figures.json"
"""The measured figures that the card states."""

__all__ = ["CARD", "CODER_DIR", "DEMO_DIR", "FIGURES", "MODEL_DIR"]
