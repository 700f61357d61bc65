"""The language model: built, trained, measured against unigram and bigram."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from lakeinterp.demo import MODEL_DIR
from scripts.train_demo.text import (
    CONTEXT_TOKENS,
    END_OF_TEXT_ID,
    PROGRESS,
    ModelRecipe,
    batches,
    pack,
    record,
    token_documents,
)

if TYPE_CHECKING:
    pass


# Shape suffixes: B sequences, T tokens of a context, V vocabulary, N tokens, D model width,
# L latents, K kept latents a token.


def build_model(recipe: ModelRecipe, seed: int) -> LlamaForCausalLM:
    """Build the untrained model; transformers draws its weights from the global generator."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocabulary,
            hidden_size=recipe.width,
            intermediate_size=recipe.mlp_width,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=CONTEXT_TOKENS,
            tie_word_embeddings=True,
            bos_token_id=END_OF_TEXT_ID,
            eos_token_id=END_OF_TEXT_ID,
        )
    )


def next_token_loss(model: nn.Module, contexts_BT: Tensor) -> Tensor:
    """Return the mean loss of the next token, nats."""
    logits_BTV = model(input_ids=contexts_BT, use_cache=False).logits[:, :-1]
    return F.cross_entropy(logits_BTV.flatten(0, 1), contexts_BT[:, 1:].flatten())


def optimizer_for(model: nn.Module, recipe: ModelRecipe) -> torch.optim.Optimizer:
    """Return AdamW that decays matrices and leaves norms alone."""
    groups = [
        {
            "params": [weight for weight in model.parameters() if weight.ndim >= 2],
            "weight_decay": recipe.weight_decay,
        },
        {
            "params": [weight for weight in model.parameters() if weight.ndim < 2],
            "weight_decay": 0.0,
        },
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True)


def warmup_cosine(step: int, steps: int, warmup_steps: int) -> float:
    """Return the share of the peak learning rate at `step`: linear up, cosine down to 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps))


def train_model(recipe: ModelRecipe, seed: int) -> None:
    """Train the language model, save it in float16 and record its held-out loss.

    A run that was killed goes on from its last saved step, with the batches it would have seen.
    """
    model = build_model(recipe, seed)
    optimizer = optimizer_for(model, recipe)
    run = {"recipe": asdict(recipe), "seed": seed}
    first, seconds = load_progress(run, model, optimizer)
    started = time.monotonic() - seconds
    loss_of = torch.compile(next_token_loss)
    stream = batches(token_documents("train"), recipe.batch, torch.Generator().manual_seed(seed))
    for step, (epoch, contexts_BT) in enumerate(islice(stream, first, recipe.steps), first):
        rate = warmup_cosine(step, recipe.steps, recipe.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, contexts_BT)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds = time.monotonic() - started
        if step % 50 == 0:
            print(f"step {step} epoch {epoch} loss {loss.item():.3f} {seconds:.0f} s", flush=True)
        if step % 250 == 249:
            save_progress(run, model, optimizer, step + 1, seconds)
    save_model(model)
    PROGRESS.unlink(missing_ok=True)
    record("model", {"recipe": asdict(recipe), "seconds": round(seconds)} | measure_model())


def save_progress(
    run: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    """Keep what is needed to go on at `step`; the file appears whole or not at all."""
    PROGRESS.parent.mkdir(exist_ok=True)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    partial = PROGRESS.with_suffix(".partial")
    torch.save({"run": run, "step": step, "seconds": seconds, **state}, partial)
    partial.replace(PROGRESS)


def load_progress(
    run: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load the progress of the same run, if any; return its next step and its seconds so far."""
    state = torch.load(PROGRESS) if PROGRESS.exists() else {"run": None}
    if state["run"] != run:
        return 0, 0.0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"]


def save_model(model: LlamaForCausalLM) -> None:
    """Write a float16 copy of the model, whose own weights stay in float32."""
    weights = {name: weight.half() for name, weight in model.state_dict().items()}
    copy = LlamaForCausalLM(model.config).half()
    copy.load_state_dict(weights)
    copy.save_pretrained(MODEL_DIR)
    readable_by_all(MODEL_DIR / "model.safetensors")


def readable_by_all(path: Path) -> None:
    """Undo the owner-only mode that safetensors gives a file: it ships in the wheel."""
    path.chmod(0o644)


def load_model() -> LlamaForCausalLM:
    """Read the saved model back in float32, for measuring."""
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()


@torch.inference_mode()
def mean_loss(model: nn.Module, contexts_BT: Tensor, batch: int = 32) -> float:
    """Return the mean loss of the next token over all contexts, nats."""
    losses = [next_token_loss(model, rows).item() * len(rows) for rows in contexts_BT.split(batch)]
    return sum(losses) / len(contexts_BT)


def measure_model() -> dict[str, Any]:
    """Measure the saved model and two baselines on the same held-out tokens."""
    train_BT, heldout_BT = pack(token_documents("train")), pack(token_documents("heldout"))
    model = load_model()
    unigram, bigram = ngram_losses(train_BT, heldout_BT, model.config.vocab_size)
    return {
        "cores": os.cpu_count(),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "heldout_tokens": heldout_BT[:, 1:].numel(),
        "heldout_loss": round(mean_loss(model, heldout_BT), 4),
        "train_loss": round(mean_loss(model, train_BT[::4]), 4),
        "unigram_loss": round(unigram, 4),
        "bigram_loss": round(bigram, 4),
    }


def ngram_losses(train_BT: Tensor, heldout_BT: Tensor, vocabulary: int) -> tuple[float, float]:
    """Return the held-out losses of a unigram (add-one) and a bigram (Witten-Bell), nats."""
    count_V = torch.bincount(train_BT[:, 1:].flatten(), minlength=vocabulary).double() + 1
    unigram_V = count_V / count_V.sum()
    pairs = (train_BT[:, :-1] * vocabulary + train_BT[:, 1:]).flatten()
    count_VV = torch.bincount(pairs, minlength=vocabulary**2).view(vocabulary, vocabulary)
    total_V, kinds_V = count_VV.sum(1), (count_VV > 0).sum(1).clamp(min=1)
    before, after = heldout_BT[:, :-1].flatten(), heldout_BT[:, 1:].flatten()
    seen, unseen = count_VV[before, after], kinds_V[before] * unigram_V[after]
    bigram = (seen + unseen) / (total_V[before] + kinds_V[before])
    return -unigram_V[after].log().mean().item(), -bigram.log().mean().item()
