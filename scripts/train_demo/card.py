"""The card, written from the measured figures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from transformers import (
    LlamaForCausalLM,
)

from lakeinterp.demo import CARD, CODER_DIR, FIGURES
from lakeinterp.demo.corpus import HELDOUT_SHARE
from scripts.train_demo.coders import CODERS, CoderRecipe
from scripts.train_demo.measure import top_contexts
from scripts.train_demo.model import load_model
from scripts.train_demo.text import CONTEXT_TOKENS, END_OF_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def write_card(seed: int) -> None:
    """Write the card from the measured figures, with a few latents drawn at random."""
    figures = json.loads(FIGURES.read_text())
    model = load_model()
    sections = [_introduction(), _model_section(figures["model"]), _data_section(figures)]
    sections.append(_coder_section())
    sections += [_latents_section(recipe, model, seed) for recipe in CODERS]
    sections.append(_closing())
    CARD.write_text("\n".join(sections))


def coder_report(recipe: CoderRecipe) -> dict[str, Any]:
    """Read the figures stored beside a coder."""
    return json.loads((CODER_DIR / recipe.hookpoint / "report.json").read_text())


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def _introduction() -> str:
    return """\
# The demo model and its sparse coders

A tiny language model of Python source code, a residual sparse autoencoder and an MLP
transcoder. They ship with lakeinterp, so the whole pipeline, and its tests, run on any machine
without a download. Every figure below was measured by `scripts/train_demo`, which makes all
of these files again. They are for trying things out, not for claims about language models.
"""


def _model_section(model: dict[str, Any]) -> str:
    recipe = model["recipe"]
    tokens = recipe["steps"] * recipe["batch"] * CONTEXT_TOKENS
    losses = {
        "unigram, add-one": model["unigram_loss"],
        "bigram, Witten-Bell": model["bigram_loss"],
        "this model": model["heldout_loss"],
        "this model, on training text": model["train_loss"],
    }
    return f"""\
## Model

Llama architecture (`LlamaForCausalLM`), {model["parameters"]:,} parameters, tied embeddings:
{recipe["layers"]} layers, width {recipe["width"]}, {recipe["heads"]} heads, MLP width \
{recipe["mlp_width"]}, context {CONTEXT_TOKENS} tokens.
Stored in float16, measured in float32. Byte-level BPE, {recipe["vocabulary"]} tokens, so every \
text round-trips.
`{END_OF_TEXT}` parts documents and stands in front of every context; the tokenizer does not \
add it.

Trained for {recipe["steps"]:,} steps of {recipe["batch"]} contexts ({tokens / 1e6:.1f} M tokens) \
in {model["seconds"] / 60:.0f} minutes
on {model["cores"]} CPU cores shared with other work: bfloat16 autocast, AdamW, learning rate \
{recipe["learning_rate"]:g}
with cosine decay.

Loss of the next token in nats, on the same {model["heldout_tokens"]:,} \
held-out tokens:

{table(["predictor", "loss"], [[name, f"{loss:.3f}"] for name, loss in losses.items()])}"""


def _data_section(figures: dict[str, Any]) -> str:
    counts = figures["tokenizer"]
    rows = [
        [part, *(f"{counts[part][each]:,}" for each in ("documents", "characters", "tokens"))]
        for part in ("train", "heldout")
    ]
    return f"""\
## Data

The standard library of CPython {counts["python"]}, as installed: `lakeinterp.demo.corpus` reads
it again on your machine. A document is a module's source with its docstrings cut out, or one
docstring, or one topic of `pydoc_data/topics.py`; no text occurs twice. Tests, data tables and
installed packages are left out. A module is held out, with its docstrings, when a digest of its
path falls into the first {HELDOUT_SHARE:.0%}. On another Python version the texts differ, and \
text that was
trained on may have moved between modules, so figures will differ a little.

{table(["part", "documents", "characters", "tokens"], rows)}"""


def _coder_section() -> str:
    facts = {
        "reads": lambda r: "input" if r["recipe"]["transcode"] else "output",
        "predicts": lambda _: "output",
        "latents": lambda r: r["recipe"]["n_latents"],
        "k": lambda r: r["recipe"]["k"],
        "fraction of variance unexplained": lambda r: f"{r['fvu']:.3f}",
        "L0": lambda r: f"{r['l0']:.2f}",
        "dead latents (never active)": lambda r: f"{r['dead_share']:.2%}",
        "dense latents (active at > 10 % of tokens)": lambda r: f"{r['dense_share']:.2%}",
        "tokens a latent is active at, median": lambda r: f"{r['median_activations']:,}",
        "held-out tokens measured": lambda r: f"{r['heldout_tokens']:,}",
        "loss of the model": lambda r: f"{r['loss_clean']:.3f}",
        "loss with the reconstruction spliced in": lambda r: f"{r['loss_spliced']:.3f}",
        "loss with zeros spliced in": lambda r: f"{r['loss_zeroed']:.3f}",
        "loss recovered": lambda r: f"{r['loss_recovered']:.1%}",
        "tokens seen in training": lambda r: (
            f"{r['recipe']['steps'] * r['recipe']['batch'] / 1e6:.1f} M"
        ),
        "training minutes": lambda r: f"{r['seconds'] / 60:.1f}",
        "minutes to collect activations, once for both": (
            lambda r: f"{r['capture_seconds'] / 60:.1f}"
        ),
    }
    reports = [coder_report(recipe) for recipe in CODERS]
    rows = [[name, *map(value, reports)] for name, value in facts.items()]
    return f"""\
## Sparse coders

Top-k coders in EleutherAI's `sparsify` layout, float16, unit decoder rows, trained on the
activations of the training part with an auxiliary loss for dead latents. End-of-text positions
are left out of training and of every figure: they are attention sinks of another scale.
Hookpoints are paths inside the inner model. Figures are on held-out text.

{table(["", *(f"`{recipe.hookpoint}`" for recipe in CODERS)], rows)}"""


def _latents_section(recipe: CoderRecipe, model: LlamaForCausalLM, seed: int) -> str:
    text = f"""\
### Latents of `{recipe.hookpoint}`

Drawn at random among those active at 100 or more held-out tokens, not chosen. Each line is a
held-out context; the strongest token stands between angle quotes, `⏎` is a newline.
"""
    for record in top_contexts(recipe, model, n_latents=3, seed=seed):
        contexts = "".join(f"- `{context}`\n" for context in record["contexts"])
        text += f"\nLatent {record['latent']}, active at {record['density']:.2%} of tokens:\n\n"
        text += contexts
    return text


def _closing() -> str:
    return """\
## Limits

- The model knows Python source and English docstrings, as a few million tokens teach them. It
  writes plausible fragments and no working code, and knows nothing else.
- Much of what its latents stand for is syntax: a sign, an indent, a keyword, a common name.
  Explanations of them are easy; scores on this demo say nothing about larger models.
- Held-out modules are by the same authors in the same style, and share idioms and copied
  passages with the modules trained on.
- Contexts longer than 256 tokens were never trained.

## Licence

The weights and the tokenizer are under Apache-2.0. The text they were trained on is the CPython
standard library, under the PSF licence; none of it is in this package but the short contexts
above.
"""
