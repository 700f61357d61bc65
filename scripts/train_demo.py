"""Train the demo's assets: a tokenizer, a tiny language model, two sparse coders, their card.

Reads the standard library through `lakeinterp.demo.corpus`; writes `lakeinterp/demo/`. A stage
reads what the stages before it wrote, so each can be redone alone:

    python scripts/train_demo.py all
    python scripts/train_demo.py coders card

Every figure of the card is measured here and kept in `figures.json`. Two CPU cores need about
an hour. The seed fixes every draw; other machines still round differently, so they end with
other weights of the same quality.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from lakeinterp.demo import CARD, CODER_DIR, FIGURES, MODEL_DIR
from lakeinterp.demo.corpus import HELDOUT_SHARE, Part, documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

# Shape suffixes: B sequences, T tokens of a context, V vocabulary, N tokens, D model width,
# L latents, K kept latents a token.

PROGRESS = Path("build/demo_model.pt")

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0
CONTEXT_TOKENS = 256

# Words, single digits, runs of signs, a newline with the indent that follows it.
CODE_WORDS = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\n+ *|[^\S\n]+(?=\S)|\s+"


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """How the language model is built and trained."""

    vocabulary: int = 4096
    width: int = 192
    mlp_width: int = 512
    layers: int = 6
    heads: int = 3
    batch: int = 16
    steps: int = 2250
    warmup_steps: int = 100
    learning_rate: float = 2e-3
    weight_decay: float = 0.1


def record(section: str, figures: dict[str, Any]) -> None:
    """Replace one section of the figures file."""
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    known[section] = figures
    FIGURES.write_text(json.dumps(known, indent=1) + "\n")


# ---- tokenizer ----------------------------------------------------------------------------


def train_tokenizer(vocabulary: int) -> None:
    """Fit a byte-level BPE to the training part and save it as a Hugging Face tokenizer."""
    started = time.monotonic()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CODE_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for _, text in documents("train")), trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(MODEL_DIR)
    # Version 5 of transformers writes a class name that version 4 does not know.
    path = MODEL_DIR / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(config, indent=2) + "\n")
    record("tokenizer", _corpus_figures() | {"seconds": round(time.monotonic() - started)})


def _corpus_figures() -> dict[str, Any]:
    """Count both parts in documents, characters and tokens."""
    figures: dict[str, Any] = {"python": platform.python_version()}
    for part in ("train", "heldout"):
        texts = [text for _, text in documents(part)]
        figures[part] = {
            "documents": len(texts),
            "characters": sum(map(len, texts)),
            "tokens": sum(map(len, tokenize(texts))),
        }
    return figures


def tokenize(texts: list[str]) -> list[list[int]]:
    """Turn texts into token ids, with no special token added."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [each.ids for each in encoded]


# ---- token sequences ----------------------------------------------------------------------


def token_documents(part: Part) -> list[Tensor]:
    """Read one part of the corpus as one tensor of token ids a document."""
    return [torch.tensor(ids) for ids in tokenize([text for _, text in documents(part)])]


def pack(token_docs: list[Tensor], generator: torch.Generator | None = None) -> Tensor:
    """Lay documents end to end and cut them into contexts.

    Args:
        token_docs: Token ids of each document.
        generator: Draws the order of the documents, then of the contexts; None keeps both.

    Returns:
        Token ids, `[B, T]`. Every row starts with the end-of-text token, which also parts the
        documents; what does not fill a last row is dropped.
    """
    order = range(len(token_docs))
    if generator is not None:
        order = torch.randperm(len(token_docs), generator=generator).tolist()
    end = torch.tensor([END_OF_TEXT_ID])
    stream = torch.cat([piece for index in order for piece in (token_docs[index], end)])
    rows = stream.numel() // (CONTEXT_TOKENS - 1)
    stream_BT = stream[: rows * (CONTEXT_TOKENS - 1)].view(rows, CONTEXT_TOKENS - 1)
    contexts_BT = torch.cat([end.expand(rows, 1), stream_BT], dim=1)
    if generator is not None:
        contexts_BT = contexts_BT[torch.randperm(rows, generator=generator)]
    return contexts_BT


def batches(
    token_docs: list[Tensor], size: int, generator: torch.Generator
) -> Iterator[tuple[int, Tensor]]:
    """Yield epoch and batch `[size, T]` without end, packed anew for every epoch."""
    epoch = 0
    while True:
        contexts_BT = pack(token_docs, generator)
        for start in range(0, len(contexts_BT) - size + 1, size):
            yield epoch, contexts_BT[start : start + size]
        epoch += 1


# ---- language model -----------------------------------------------------------------------


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


# ---- sparse coders ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CoderRecipe:
    """How one sparse coder is built and trained."""

    hookpoint: str
    """Module path inside the inner model: `layers.3` is `model.layers[3]`."""
    n_latents: int
    transcode: bool
    """Read the module's input and predict its output, instead of the output twice."""
    k: int = 16
    batch: int = 2048
    steps: int = 2000
    warmup_steps: int = 100
    learning_rate: float = 1e-3
    aux_share: float = 1 / 32
    """Weight of the auxiliary loss that revives dead latents (Gao et al. 2024, A.2)."""
    dead_after_tokens: int = 200_000


CODERS = (
    CoderRecipe(hookpoint="layers.3", n_latents=4096, transcode=False),
    CoderRecipe(hookpoint="layers.3.mlp", n_latents=2048, transcode=True),
)


class SparseCoder(nn.Module):
    """A top-k sparse coder whose tensors are named as in EleutherAI's format."""

    def __init__(self, width: int, n_latents: int, k: int, transcode: bool) -> None:
        super().__init__()
        self.k, self.transcode = k, transcode
        self.encoder = nn.Linear(width, n_latents)
        self.W_dec = nn.Parameter(torch.empty(n_latents, width))
        self.b_dec = nn.Parameter(torch.zeros(width))

    def pre_activations(self, inputs_ND: Tensor) -> Tensor:
        """Return `[N, L]`. No gradient reaches `b_dec` from here: it would double the cost."""
        return self.encoder(inputs_ND if self.transcode else inputs_ND - self.b_dec.detach())

    def decode(self, values_NK: Tensor, latents_NK: Tensor) -> Tensor:
        """Return the weighted sum of decoder rows, `[N, D]`, without the bias."""
        return F.embedding_bag(latents_NK, self.W_dec, per_sample_weights=values_NK, mode="sum")

    def encode(self, inputs_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values and indices of the kept latents, `[N, K]` each."""
        return keep_top(self.pre_activations(inputs_ND), self.k)

    def forward(self, inputs_ND: Tensor) -> Tensor:
        """Return the reconstruction, `[N, D]`."""
        return self.decode(*self.encode(inputs_ND)) + self.b_dec


def keep_top(pre_NL: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the values, negative ones set to 0, and the indices of the k largest."""
    top = pre_NL.topk(k, dim=-1, sorted=False)
    return top.values.relu(), top.indices


@torch.inference_mode()
def activations(
    model: LlamaForCausalLM, contexts_BT: Tensor, recipes: Sequence[CoderRecipe], batch: int = 32
) -> dict[str, tuple[Tensor, Tensor]]:
    """Run the model and keep what each coder reads and what it is to predict.

    Args:
        model: The language model. Its layers after the last one needed are not run.
        contexts_BT: Token ids.
        recipes: The coders.
        batch: Contexts of one forward pass.

    Returns:
        By hookpoint, inputs and targets `[N, D]`, float16, at every token but end-of-text:
        those positions are attention sinks of another scale.
    """
    kept: dict[str, list[tuple[Tensor, Tensor]]] = {each.hookpoint: [] for each in recipes}
    handles = []
    for recipe in recipes:

        def keep(_module: nn.Module, inputs: Any, output: Tensor, recipe=recipe) -> None:
            source = inputs[0] if recipe.transcode else output
            kept[recipe.hookpoint].append((source[is_text].half(), output[is_text].half()))

        handles.append(model.model.get_submodule(recipe.hookpoint).register_forward_hook(keep))
    layers = model.model.layers
    model.model.layers = layers[: 1 + max(int(name.split(".")[1]) for name in kept)]
    for rows in contexts_BT.split(batch):
        is_text = rows != END_OF_TEXT_ID
        model.model(input_ids=rows, use_cache=False)
    model.model.layers = layers
    for handle in handles:
        handle.remove()
    return {
        name: (torch.cat([each for each, _ in pairs]), torch.cat([each for _, each in pairs]))
        for name, pairs in kept.items()
    }


def unit_rows(weight_LD: Tensor) -> None:
    """Scale every row to length 1, in place."""
    weight_LD /= weight_LD.norm(dim=1, keepdim=True)


def new_coder(recipe: CoderRecipe, targets_ND: Tensor, generator: torch.Generator) -> SparseCoder:
    """Build an untrained coder: random unit decoder rows, the encoder equal to the decoder."""
    coder = SparseCoder(targets_ND.shape[1], recipe.n_latents, recipe.k, recipe.transcode)
    with torch.no_grad():
        coder.W_dec.normal_(generator=generator)
        unit_rows(coder.W_dec)
        coder.encoder.weight.copy_(coder.W_dec)
        coder.encoder.bias.zero_()
        coder.b_dec.copy_(targets_ND.mean(0))
    return coder


class DeadLatents:
    """Count the tokens since each latent was last kept."""

    def __init__(self, n_latents: int, after_tokens: int) -> None:
        self.after_tokens = after_tokens
        self.idle_L = torch.zeros(n_latents, dtype=torch.int64)

    def update(self, values_NK: Tensor, latents_NK: Tensor) -> Tensor:
        """Count one batch and return the indices of the latents that are dead now."""
        self.idle_L += len(values_NK)
        self.idle_L[latents_NK[values_NK > 0]] = 0
        return (self.idle_L > self.after_tokens).nonzero().squeeze(1)


def coder_losses(
    coder: SparseCoder, dead: DeadLatents, inputs_ND: Tensor, targets_ND: Tensor
) -> tuple[Tensor, Tensor, int]:
    """Return one batch's loss and auxiliary loss, and the number of dead latents.

    Both losses are squared errors as a share of what was to be predicted: of the target's
    variance, and of the error that the kept latents leave. Only dead latents are asked for
    the latter.
    """
    pre_NL = coder.pre_activations(inputs_ND)
    values_NK, latents_NK = keep_top(pre_NL, coder.k)
    error_ND = targets_ND - coder.decode(values_NK, latents_NK) - coder.b_dec
    loss = error_ND.square().sum() / (targets_ND - targets_ND.mean(0)).square().sum()
    dead_now = dead.update(values_NK.detach(), latents_NK)
    if len(dead_now) == 0:
        return loss, torch.zeros(()), 0
    wanted = 2 * coder.k
    values_NK, columns_NK = keep_top(pre_NL[:, dead_now], min(wanted, len(dead_now)))
    left_ND = error_ND.detach()
    aux = (left_ND - coder.decode(values_NK, dead_now[columns_NK])).square().sum()
    share = min(1.0, len(dead_now) / wanted)
    return loss, share * aux / left_ND.square().sum(), len(dead_now)


def train_coder(
    recipe: CoderRecipe, inputs_ND: Tensor, targets_ND: Tensor, generator: torch.Generator
) -> SparseCoder:
    """Train one coder on activations scaled to unit variance, then undo the scaling."""
    scale_in, scale_out = (1 / each[:100_000].float().std() for each in (inputs_ND, targets_ND))
    coder = new_coder(recipe, targets_ND[:100_000].float() * scale_out, generator)
    dead = DeadLatents(recipe.n_latents, recipe.dead_after_tokens)
    optimizer = torch.optim.Adam(coder.parameters(), lr=recipe.learning_rate, fused=True)
    for step in range(recipe.steps):
        chosen = torch.randint(len(inputs_ND), (recipe.batch,), generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * warmup_cosine(
                step, recipe.steps, recipe.warmup_steps
            )
        loss, aux, n_dead = coder_losses(
            coder,
            dead,
            inputs_ND[chosen].float() * scale_in,
            targets_ND[chosen].float() * scale_out,
        )
        (loss + recipe.aux_share * aux).backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            unit_rows(coder.W_dec)
        if step % 200 == 0:
            print(f"{recipe.hookpoint} step {step} fvu {loss.item():.3f} dead {n_dead}", flush=True)
    rescale(coder, scale_in.item(), scale_out.item())
    return coder


@torch.no_grad()
def rescale(coder: SparseCoder, scale_in: float, scale_out: float) -> None:
    """Turn a coder of scaled activations into the same coder of the model's own."""
    coder.encoder.weight *= scale_in / scale_out
    coder.encoder.bias /= scale_out
    coder.b_dec /= scale_out


def save_coder(coder: SparseCoder, recipe: CoderRecipe) -> None:
    """Write the coder in EleutherAI's layout, in float16."""
    folder = CODER_DIR / recipe.hookpoint
    folder.mkdir(parents=True, exist_ok=True)
    width = coder.W_dec.shape[1]
    config = {
        "activation": "topk",
        "expansion_factor": recipe.n_latents // width,
        "normalize_decoder": True,
        "num_latents": recipe.n_latents,
        "k": recipe.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": recipe.transcode,
        "d_in": width,
    }
    (folder / "cfg.json").write_text(json.dumps(config, indent=1) + "\n")
    tensors = {name: tensor.half() for name, tensor in coder.state_dict().items()}
    save_file(tensors, folder / "sae.safetensors")
    readable_by_all(folder / "sae.safetensors")


def load_coder(recipe: CoderRecipe, width: int) -> SparseCoder:
    """Read a saved coder back in float32, for measuring."""
    coder = SparseCoder(width, recipe.n_latents, recipe.k, recipe.transcode)
    tensors = load_file(CODER_DIR / recipe.hookpoint / "sae.safetensors")
    coder.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return coder.eval()


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


# ---- measuring the coders -----------------------------------------------------------------


@torch.inference_mode()
def measure_coder(
    recipe: CoderRecipe, model: LlamaForCausalLM, heldout_BT: Tensor
) -> dict[str, Any]:
    """Measure a saved coder on held-out tokens, end-of-text left out."""
    coder = load_coder(recipe, model.config.hidden_size)
    inputs_ND, targets_ND = activations(model, heldout_BT, (recipe,))[recipe.hookpoint]
    mean_D = targets_ND.float().mean(0)
    count_L, error, variance = torch.zeros(recipe.n_latents), 0.0, 0.0
    for source, target in zip(inputs_ND.split(8192), targets_ND.split(8192), strict=True):
        values_NK, latents_NK = coder.encode(source.float())
        count_L += torch.bincount(latents_NK[values_NK > 0], minlength=recipe.n_latents)
        error += (target - coder.b_dec - coder.decode(values_NK, latents_NK)).square().sum().item()
        variance += (target - mean_D).square().sum().item()
    tokens = len(inputs_ND)
    return {
        "heldout_tokens": tokens,
        "fvu": round(error / variance, 4),
        "explained_variance": round(1 - error / variance, 4),
        "l0": round(count_L.sum().item() / tokens, 4),
        "dead_share": round((count_L == 0).float().mean().item(), 4),
        "dense_share": round((count_L > 0.1 * tokens).float().mean().item(), 4),
        "median_activations": int(count_L.median().item()),
    } | splice_figures(recipe, coder, model, heldout_BT[::3])


def splice_figures(
    recipe: CoderRecipe, coder: SparseCoder, model: LlamaForCausalLM, contexts_BT: Tensor
) -> dict[str, Any]:
    """Measure the model's loss with its activations replaced by reconstructions, and by zeros."""
    clean = mean_loss(model, contexts_BT)
    spliced = spliced_loss(recipe, coder, model, contexts_BT)
    zeroed = spliced_loss(recipe, torch.zeros_like, model, contexts_BT)
    return {
        "splice_tokens": contexts_BT[:, 1:].numel(),
        "loss_clean": round(clean, 4),
        "loss_spliced": round(spliced, 4),
        "loss_zeroed": round(zeroed, 4),
        "loss_recovered": round((zeroed - spliced) / (zeroed - clean), 4),
    }


def spliced_loss(
    recipe: CoderRecipe,
    replacement: Callable[[Tensor], Tensor],
    model: LlamaForCausalLM,
    contexts_BT: Tensor,
    batch: int = 32,
) -> float:
    """Return the mean loss with the hookpoint's output replaced, end-of-text positions kept."""
    total = 0.0
    for rows in contexts_BT.split(batch):
        is_text = (rows != END_OF_TEXT_ID)[..., None]

        def replace(_module: nn.Module, inputs: Any, output: Tensor, is_text=is_text) -> Tensor:
            source = inputs[0] if recipe.transcode else output
            flat = replacement(source.flatten(0, 1))
            return torch.where(is_text, flat.view_as(output), output)

        handle = model.model.get_submodule(recipe.hookpoint).register_forward_hook(replace)
        total += mean_loss(model, rows) * len(rows)
        handle.remove()
    return total / len(contexts_BT)


# ---- what latents look like -----------------------------------------------------------------


@torch.inference_mode()
def top_contexts(
    recipe: CoderRecipe, model: LlamaForCausalLM, n_latents: int, seed: int, shown: int = 4
) -> list[dict[str, Any]]:
    """Draw latents at random and show where each is strongest in held-out text.

    Args:
        recipe: Which coder.
        model: The language model.
        n_latents: How many latents to draw among those active at 100 tokens or more.
        seed: Fixes the draw.
        shown: Contexts of each latent, every one from another sequence.

    Returns:
        One record a latent: its index, the share of tokens it is active at, and its contexts,
        strongest first, as text with the strongest token between angle quotes.
    """
    coder = load_coder(recipe, model.config.hidden_size)
    heldout_BT = pack(token_documents("heldout"))
    inputs_ND, _ = activations(model, heldout_BT, (recipe,))[recipe.hookpoint]
    parts = [coder.encode(part.float()) for part in inputs_ND.split(8192)]
    values_NK, latents_NK = (torch.cat(each) for each in zip(*parts, strict=True))
    where_N2 = (heldout_BT != END_OF_TEXT_ID).nonzero()
    count_L = torch.bincount(latents_NK[values_NK > 0], minlength=recipe.n_latents)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(recipe.n_latents, generator=generator).tolist()
    records = []
    for latent in [each for each in order if count_L[each] >= 100][:n_latents]:
        value_N = (values_NK * (latents_NK == latent)).sum(1)
        strongest = one_a_sequence(where_N2[value_N.topk(100).indices].tolist())[:shown]
        texts = [marked_text(heldout_BT[row], position) for row, position in strongest]
        density = round(count_L[latent].item() / len(inputs_ND), 5)
        records.append({"latent": latent, "density": density, "contexts": texts})
    return records


def one_a_sequence(places: list[list[int]]) -> list[list[int]]:
    """Keep the first place of every sequence."""
    first: dict[int, list[int]] = {}
    for place in places:
        first.setdefault(place[0], place)
    return list(first.values())


def marked_text(tokens_T: Tensor, position: int, before: int = 12, after: int = 4) -> str:
    """Return the text around a token, which stands between angle quotes, on one line."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    ends = (tokens_T == END_OF_TEXT_ID).nonzero().flatten().tolist()
    start = max([position - before, *[end + 1 for end in ends if end < position]])
    stop = min([position + after + 1, *[end for end in ends if end > position]])
    left, token, right = (
        tokenizer.decode(tokens_T[slice(*span)].tolist())
        for span in ((start, position), (position, position + 1), (position + 1, stop))
    )
    text = f"{left}«{token}»{right}".replace("`", "'").replace("\n", "⏎")
    return re.sub(" +", " ", text)


# ---- the card -----------------------------------------------------------------------------


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
without a download. Every figure below was measured by `scripts/train_demo.py`, which makes all
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
with cosine decay. {model.get("note", "")}

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


# ---- command line -------------------------------------------------------------------------

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
