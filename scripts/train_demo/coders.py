"""The sparse coders: trained on the model's activations, saved in sparsify's layout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    LlamaForCausalLM,
)

from lakeinterp.demo import CODER_DIR
from scripts.train_demo.model import readable_by_all, warmup_cosine
from scripts.train_demo.text import END_OF_TEXT_ID

if TYPE_CHECKING:
    from collections.abc import Sequence


# Shape suffixes: B sequences, T tokens of a context, V vocabulary, N tokens, D model width,
# L latents, K kept latents a token.


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
