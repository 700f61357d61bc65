"""Settings of model and coders."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from lakeinterp.config.section import Positive, Section


def _split(devices: object) -> object:
    """Let a list be written as the command line writes it, with commas."""
    if not isinstance(devices, str):
        return devices
    return tuple(name.strip() for name in devices.split(",") if name.strip())


class CaptureConfig(Section):
    """Which model, which coders, and how they run."""

    model: str = ""
    """Hugging Face model folder or hub id."""
    model_revision: str | None = None
    """Revision of a hub model."""
    coder: str = ""
    """Folder or hub id of the sparse coders, one sub-folder a hookpoint; unused for `neurons`."""
    coder_revision: str | None = None
    """Revision of a hub coder."""
    format: str | None = None
    """Format of the coders; None finds it from their files. `neurons` takes the MLP's neurons."""
    reads: str | None = None
    """Where coders read that do not say so: a module path, `{layer}` in it, or a word of theirs."""
    control: Literal["none", "random-coder", "random-model"] = "none"
    """`random-coder` puts random directions of equal sparsity in each coder's place,
    `random-model` draws the model's weight matrices anew; a capture of its own either way."""
    neurons_k: Positive | None = None
    """Neurons kept at each token for `neurons`; None keeps those above zero."""
    hookpoints: tuple[str, ...] = ()
    """Hookpoints to capture; empty takes every one the coder folder holds."""
    n_tokens: Positive = 10_000_000
    """Tokens to capture, rounded down to whole sequences; less if the corpus ends."""
    name: str | None = None
    """Name of the capture; None derives one from model, coder, hookpoints and corpus."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, …"""
    devices: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    """Devices that share the work, one process each: `cuda:0,cuda:1`, `cuda` for every GPU there
    is, `cpu:2` for two processes on the CPU; empty is `device` alone, in this process."""
    shards: Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$")] | None = None
    """`2/3` captures the second third of the shards, counted from 1: the same command with 1/3 and
    3/3 on other machines, into the same lake, does the rest."""
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None
    """Spread one model over all GPUs and the host's memory, as accelerate does; None keeps it on
    one device."""
    attention: (
        Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] | None
    ) = None
    """Attention implementation of transformers; None lets transformers choose."""
    document_attention: bool = False
    """Let tokens see their own document alone, in sequences that hold several: a capture of its
    own. False lets attention cross document boundaries, as most pre-training does."""
    quantization: Literal["none", "8bit", "4bit"] = "none"
    """Hold the model's matrices in 8 or 4 bits, by bitsandbytes: a capture of its own."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the model; `auto` takes the checkpoint's on a GPU and float32 on a CPU."""
    value_dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Precision that activations are rounded to before they are stored."""
    batch_sequences: Positive | None = None
    """Sequences in one forward pass; None is 8 on a CPU and as many as the free memory of a GPU
    holds. Halved when memory runs out."""
    shard_tokens: Positive = 262_144
    """Tokens of one shard: what is sorted in memory and committed as one."""
    encode_chunk_bytes: Positive = 256 * 2**20
    """Ceiling for the pre-activations that exist at one time."""
    allow_nonfinite: bool = False
    """Leave out activations that are NaN or infinite and count them in `hookpoints.checks`; False
    stops at the first one."""
    min_explained_variance: float = 0.3
    """Refuse a coder that explains less of the variance of what it codes; -inf accepts any."""
    max_l0_ratio: Annotated[float, Field(gt=1)] = 2.0
    """Refuse a coder whose L0 is this many times off the published one; inf accepts any."""
    n_buckets: Positive | None = None
    """Ranges of latents a hookpoint is cut into; None chooses 1 to 64 by the coder's width."""

    @field_validator("shards")
    @classmethod
    def _part_is_one_of_n(cls, value: str | None) -> str | None:
        if value is not None:
            part, _, n_parts = value.partition("/")
            if int(part) > int(n_parts):
                raise ValueError(f"{value}: parts are counted from 1 to {n_parts}")
        return value
