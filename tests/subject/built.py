"""A capture of the tiny model with a final norm that lets logits through, opened again."""

from __future__ import annotations

import torch
from transformers import GPT2Model

from lakeinterp.capture import capture
from lakeinterp.config import load
from lakeinterp.lake import Bench, Lake
from tests import tiny


def settings(folder, **more):
    """Build model, coder and corpus; the model's final norm has gains of its own."""
    made = tiny.settings(folder, **{"capture.name": "tiny", "capture.n_tokens": 2048, **more})
    model = GPT2Model.from_pretrained(folder / "model")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.ln_f.weight.copy_(1 + torch.rand(tiny.D, generator=generator))
        model.ln_f.bias.copy_(torch.rand(tiny.D, generator=generator))
    model.save_pretrained(folder / "model")
    return made


def captured(folder, **more):
    """Capture it and return lake and configuration."""
    config = load(values=settings(folder, **more))
    lake = Lake(config.lake)
    capture(lake, config)
    return lake, config


def bench(lake, config, hookpoint=tiny.HOOKPOINT):
    name = lake.capture(None)["capture"]
    return Bench(lake=lake, config=config, capture=name, hookpoint=hookpoint, sample="")
