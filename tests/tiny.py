"""A GPT-2 with hand-set weights whose hidden state is known, a tokenizer of words, a coder on it.

The hidden state after block 0 is [one-hot token | one-hot position | one-hot previous token]: one
attention head reads the token before. Every embedding has two ones, so layer norm is the same
affine map everywhere and can be undone by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

WORDS = [
    "<s>",
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "under",
    "mat",
    "house",
    "and",
    "it",
    "said",
    "that",
    "red",
    "blue",
]
CAT, THE, DOG = (WORDS.index(w) for w in ("cat", "the", "dog"))
V, P = len(WORDS), 64
D = 2 * V + P
HOOKPOINT = "h.0"
CAT_LATENT, AFTER_THE_LATENT, DEAD_LATENT, DOG_AFTER_THE_LATENT = range(4)
N_LATENTS = 8


def build_model(folder: Path) -> Path:
    """Save the model and its tokenizer as a Hugging Face folder."""
    config = GPT2Config(
        vocab_size=V, n_positions=P, n_embd=D, n_layer=2, n_head=1, n_inner=4,
        bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = GPT2Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        _set_embeddings(model)
        _set_attention(model.h[0])
        for block in model.h:
            block.ln_1.weight.fill_(1)
            block.ln_2.weight.fill_(1)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def build_coder(folder: Path) -> Path:
    """Save a sparsify SAE on block 0: `cat`; any token after `the`; nothing; `dog` after `the`."""
    encoder, bias = torch.zeros(N_LATENTS, D), torch.full((N_LATENTS,), -10.0)
    encoder[CAT_LATENT, CAT], bias[CAT_LATENT] = 1, -0.5
    encoder[AFTER_THE_LATENT, V + P + THE], bias[AFTER_THE_LATENT] = 1, -0.5
    encoder[DOG_AFTER_THE_LATENT, DOG] = encoder[DOG_AFTER_THE_LATENT, V + P + THE] = 1
    bias[DOG_AFTER_THE_LATENT] = -1.5
    for latent in range(4, N_LATENTS):
        encoder[latent, latent + 3], bias[latent] = 1, -0.5
    path = folder / HOOKPOINT
    path.mkdir(parents=True)
    (path / "cfg.json").write_text(
        json.dumps({"activation": "topk", "k": 4, "num_latents": N_LATENTS, "d_in": D})
    )
    weights = {
        "encoder.weight": encoder,
        "encoder.bias": bias,
        "W_dec": encoder.clone(),
        "b_dec": torch.zeros(D),
    }
    save_file(weights, path / "sae.safetensors")
    return folder


def write_corpus(file: Path, n_documents: int = 400, seed: int = 0) -> list[str]:
    """Write random sentences of the words as JSON lines and return them."""
    rng = np.random.default_rng(seed)
    texts = [
        " ".join(WORDS[i] for i in rng.integers(1, V, size=rng.integers(10, 60)))
        for _ in range(n_documents)
    ]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return texts


def settings(folder: Path, **more: object) -> dict[str, object]:
    """Build model, coder and corpus under a folder; return settings that capture them."""
    build_model(folder / "model")
    build_coder(folder / "coder")
    write_corpus(folder / "corpus.jsonl")
    return {
        "lake": str(folder / "lake"),
        "capture.model": str(folder / "model"),
        "capture.coder": str(folder / "coder"),
        "capture.n_tokens": 8192,
        "capture.shard_tokens": 2048,
        "capture.min_explained_variance": -100.0,
        "capture.n_buckets": 2,
        "capture.device": "cpu",
        "corpus.dataset": str(folder / "corpus.jsonl"),
        "corpus.context_tokens": P,
        "corpus.bos": "always",
        "sampling.window_tokens": 16,
        "sampling.min_windows": 5,
        "sampling.n_explain": 20,
        "sampling.n_explain_negatives": 20,
        "sampling.n_score": 20,
        "sampling.n_random": 20,
        "sampling.n_quantiles": 4,
        **more,
    }


def _tokenizer() -> PreTrainedTokenizerFast:
    space = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"
    known = {word if i == 0 else space + word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>", unk_token="<s>"
    )


def _set_embeddings(model: GPT2Model) -> None:
    model.wte.weight[:, :V] = torch.eye(V)
    model.wpe.weight[:, V : V + P] = torch.eye(P)


def _set_attention(block: torch.nn.Module) -> None:
    """Attend to the position before; copy its token to the last slot, layer norm undone."""
    mean = 2 / D
    scale = (2 / D * (1 - 2 / D) + 1e-5) ** 0.5
    attend = block.attn.c_attn.weight
    for position in range(1, P):
        attend[V + position, V + position - 1] = 200.0
    attend[V : V + P, D + V : D + V + P] = torch.eye(P) * 200.0
    attend[:V, 2 * D + V + P :] = torch.eye(V) * scale
    block.attn.c_attn.bias[2 * D + V + P :] = mean
    block.attn.c_proj.weight[V + P :, V + P :] = torch.eye(V)
