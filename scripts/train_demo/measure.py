"""What a coder does to held-out text, and the contexts its latents fire in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    LlamaForCausalLM,
)

from lakeinterp.demo import MODEL_DIR
from scripts.train_demo.coders import CoderRecipe, SparseCoder, activations, load_coder
from scripts.train_demo.model import mean_loss
from scripts.train_demo.text import END_OF_TEXT_ID, pack, token_documents

if TYPE_CHECKING:
    from collections.abc import Callable


# Shape suffixes: B sequences, T tokens of a context, V vocabulary, N tokens, D model width,
# L latents, K kept latents a token.


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
