"""Every setting, declared once: for TOML files, `--set key=value` and Prefect's parameter form.

Precedence: default < file < `--set`. Secrets are no settings: they are read from the
environment where they are used (`Deployment.api_key_env` names the variable).
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def digest(self, *, exclude: set[str] | None = None) -> str:
        """Digest of the settings as they stand, without the named ones."""
        return digest(self.model_dump(mode="json", exclude=exclude))


class CorpusConfig(Section):
    """Where the text comes from."""

    dataset: str = ""
    """A file (.jsonl, .parquet, .txt, .csv), a folder of them, a hub dataset id, `demo`, or ready
    sequences of token ids: a .npy file, a Parquet list column, the folder of a delphi cache."""
    name: str | None = None
    """Configuration name of a hub dataset."""
    split: str = "train"
    """Split of a hub dataset."""
    column: str | None = None
    """Column that holds the text; None takes `text`, or the only text column there is."""
    revision: str | None = None
    """Revision of a hub dataset."""
    chat: bool = False
    """The column holds lists of messages: the tokenizer's chat template makes the text."""
    shuffle_rows: Annotated[int, Field(ge=0)] = 0
    """Rows kept at hand to draw the next one from; 0 leaves the source's order."""
    shuffle_seed: Annotated[int, Field(ge=0)] = 22
    """Decides the order of a shuffled source."""
    context_tokens: Annotated[int, Field(gt=1)] = 256
    """Tokens of one forward pass."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Put the beginning-of-text token in front of every sequence; `auto` does as the tokenizer."""


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
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the model; `auto` takes the checkpoint's on a GPU and float32 on a CPU."""
    value_dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Precision that activations are rounded to before they are stored."""
    batch_sequences: Positive = 8
    """Sequences in one forward pass."""
    shard_tokens: Positive = 262_144
    """Tokens of one shard: what is sorted in memory and committed as one."""
    encode_chunk_bytes: Positive = 256 * 2**20
    """Ceiling for the pre-activations that exist at one time."""
    min_explained_variance: float = 0.3
    """Refuse a coder that explains less of the variance of what it codes; -inf accepts any."""
    max_l0_ratio: Annotated[float, Field(gt=1)] = 2.0
    """Refuse a coder whose L0 is this many times off the published one; inf accepts any."""
    n_buckets: Positive | None = None
    """Ranges of latents a hookpoint is cut into; None chooses 1 to 64 by the coder's width."""


class SamplingConfig(Section):
    """Which windows stand for a latent."""

    window_tokens: Annotated[int, Field(gt=1)] = 32
    """Tokens shown in one example."""
    placement: Literal["peak", "aligned"] = "peak"
    """`peak` shifts a window so that its peak stands at `peak_at`; `aligned` leaves it."""
    peak_at: Share = 0.75
    """Where in a window the peak stands, as a share of its tokens."""
    n_quantiles: Positive = 10
    """Groups of equal count over a latent's windows, ranked by peak activation; 1 is strongest."""
    n_explain: Positive = 40
    """Activating windows drawn for the explainer."""
    n_explain_negatives: Annotated[int, Field(ge=0)] = 40
    """Windows without the latent drawn from the explainer's documents."""
    n_score: Positive = 50
    """Activating windows drawn for the scorers."""
    n_random: Annotated[int, Field(ge=0)] = 50
    """Windows without the latent, uniform over the scorers' documents."""
    explain_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the documents that only the explainer may see."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 22
    """Decides roles and draws together with document and window, on every machine alike."""
    min_windows: Positive = 20
    """Latents with fewer activating windows are `rare`: a row says so, nothing is drawn."""
    dense_above: Share = 0.2
    """Latents that fire on a larger share of tokens are marked `dense`."""
    latents: tuple[int, ...] = ()
    """Latents to work on; empty takes all."""
    max_latents: Positive | None = None
    """At most this many latents a hookpoint, a random choice by `seed`."""

    @property
    def sample(self) -> str:
        """Digest of the settings that decide an example; see `lakeinterp.lake.units.sample_id`."""
        return self.digest(exclude={"latents", "max_latents"})


class Deployment(Section):
    """One language model behind an OpenAI-compatible address or a provider LiteLLM knows."""

    model: str
    """LiteLLM name: `hosted_vllm/NAME`, `openrouter/VENDOR/NAME`, `openai/NAME`, …"""
    api_base: str | None = None
    """Address, for example `http://localhost:8000/v1`; None for the provider's own."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; the key itself is never stored."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the calls among deployments of one route."""
    max_concurrency: Positive | None = None
    """Calls in flight at one time; None leaves it to `chat.concurrency`."""
    input_cost_per_token: Annotated[float, Field(ge=0)] | None = None
    """US dollars; None takes LiteLLM's price table, and the cost is unknown if it has none."""
    output_cost_per_token: Annotated[float, Field(ge=0)] | None = None
    """US dollars; as above."""


class RouteConfig(Section):
    """Deployments that may answer one kind of request."""

    deployments: tuple[Deployment, ...] = ()
    """Tried by weight."""
    fallbacks: tuple[Deployment, ...] = ()
    """Tried in order when every deployment has failed."""


class ChatConfig(Section):
    """How language models are spoken to."""

    explainer: RouteConfig = RouteConfig()
    """Writes explanations."""
    judge: RouteConfig = RouteConfig()
    """Judges them; empty takes the explainer's route."""
    concurrency: Positive = 32
    """Calls in flight at one time."""
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Longest wait for one reply."""
    attempts: Positive = 4
    """Tries of one call, waits between them included in no timeout."""
    retry_wait_s: Annotated[float, Field(ge=0)] = 1.0
    """First wait between tries; doubles, with jitter, and honours Retry-After."""
    structured: Literal["auto", "always", "never"] = "auto"
    """Ask for a JSON schema: `auto` asks, and stops asking a route that refuses it."""
    budget_usd: Annotated[float, Field(ge=0)] | None = None
    """Most US dollars that this lake's replies may cost in all; None is no limit."""


class ExplainConfig(Section):
    """Which explainer, and what it shows the model."""

    explainer: str = "pattern"
    """Name in the registry: `pattern` needs no language model, `default` asks one."""
    show_activations: bool = True
    """List the activating tokens with their strengths under each example."""
    chain_of_thought: bool = False
    """Ask for reasoning before the explanation."""
    highlight_above: Share = 0.3
    """Tokens above this share of the example's peak are delimited."""
    n_shown: Positive = 40
    """Examples of the explain role shown to the model, strongest first."""
    max_tokens: Positive = 500
    """Longest reply."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Of the explainer."""
    prompts: str | None = None
    """Folder whose `explain/*.md` replace the shipped prompts."""


class ScoreConfig(Section):
    """Which scorers, and what they compare with."""

    scorers: tuple[str, ...] = ("pattern",)
    """Names in the registry: `pattern` needs no language model; `detection` and `fuzzing` do."""
    items_per_prompt: Positive = 5
    """Items a judge sees in one call."""
    n_borrowed: Annotated[int, Field(ge=0)] = 4
    """Explanations of other latents judged on the same items: the null."""
    null_share: Share = 1.0
    """Share of the latents that get a null, a choice by `sampling.seed`."""
    headline: str = "balanced_accuracy"
    """The metric that reports sort by."""
    highlight_above: Share = 0.3
    """Tokens above this share of the example's peak are delimited in fuzzing."""
    max_tokens: Positive = 500
    """Longest reply."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Of the judge."""
    prompts: str | None = None
    """Folder whose `score/*.md` replace the shipped prompts."""


class FlowsConfig(Section):
    """How the Prefect flows run."""

    workers: Positive = 2
    """Tasks at one time; each needs memory for its own unit or hookpoint, and each that asks a
    language model has `chat.concurrency` calls of its own."""


class ReportConfig(Section):
    """What the page shows."""

    title: str = "lakeinterp report"
    """Heading of the page."""
    max_latents: Positive = 500
    """Latents shown in full, best score first; the rest are counted."""
    examples_per_section: Positive = 3
    """Examples shown for each quantile or stratum of a role."""


def _texts(options: object) -> object:
    """Let options be written as TOML writes them: `true` and 5 as well as texts."""
    if not isinstance(options, dict):
        return options
    return {k: str(v).lower() if isinstance(v, bool | int) else v for k, v in options.items()}


class Config(Section):
    """The whole tree."""

    lake: str = "lake"
    """Folder or URL of the lake."""
    storage_options: Annotated[dict[str, SecretStr], BeforeValidator(_texts)] = Field(
        default={}, exclude=True, repr=False
    )
    """Of an object store, as AWS_ENDPOINT_URL = "https://…"; never stored in the lake nor shown."""
    corpus: CorpusConfig = CorpusConfig()
    """The text."""
    capture: CaptureConfig = CaptureConfig()
    """Model and coders."""
    sampling: SamplingConfig = SamplingConfig()
    """Examples."""
    chat: ChatConfig = ChatConfig()
    """Language models."""
    explain: ExplainConfig = ExplainConfig()
    """Explanations."""
    score: ScoreConfig = ScoreConfig()
    """Scores."""
    report: ReportConfig = ReportConfig()
    """The page."""
    flows: FlowsConfig = FlowsConfig()
    """Prefect."""

    def store_options(self) -> dict[str, str]:
        """Return `storage_options` with what they hide, for the lake alone."""
        return {key: value.get_secret_value() for key, value in self.storage_options.items()}

    @model_validator(mode="after")
    def _windows_fit_the_context(self) -> Self:
        if self.sampling.window_tokens > self.corpus.context_tokens:
            raise ValueError(
                f"sampling.window_tokens ({self.sampling.window_tokens}) must not exceed "
                f"corpus.context_tokens ({self.corpus.context_tokens})"
            )
        return self

    @model_validator(mode="after")
    def _every_quantile_is_drawn_from(self) -> Self:
        sampling = self.sampling
        for name in ("n_explain", "n_score"):
            if getattr(sampling, name) < sampling.n_quantiles:
                raise ValueError(
                    f"sampling.{name} ({getattr(sampling, name)}) must not be below "
                    f"sampling.n_quantiles ({sampling.n_quantiles}): every quantile gives a window"
                )
        return self

    @model_validator(mode="after")
    def _shards_hold_whole_sequences(self) -> Self:
        if self.capture.shard_tokens % self.corpus.context_tokens:
            raise ValueError(
                f"capture.shard_tokens ({self.capture.shard_tokens}) must be a multiple of "
                f"corpus.context_tokens ({self.corpus.context_tokens})"
            )
        return self


def load(
    file: str | Path | None = None,
    overrides: Sequence[str] = (),
    values: Mapping[str, object] | None = None,
) -> Config:
    """Build the configuration: defaults, then the file, then `values`, then `key=value` texts.

    Args:
        file: TOML file with the tree's sections as tables.
        overrides: Texts such as `sampling.seed=3`; the value is read as TOML, or as a plain
            string if it is none.
        values: Dotted names and values, as the command line's own arguments give them;
            None values are left out.

    Raises:
        ConfigError: an unknown key, a wrong value, or a file that does not parse; the message
            starts with the dotted name.
        NotFound: the file does not exist.
    """
    tree = _read(file)
    for name, value in (values or {}).items():
        if value is not None:
            _put(tree, name, value)
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: write key=value, for example sampling.seed=3")
        _put(tree, name.strip(), _toml_value(value.strip()))
    tree.setdefault("lake", os.environ.get("LAKEINTERP_LAKE", "lake"))
    return validate(tree)


def validate(tree: Mapping[str, object]) -> Config:
    """Turn a nested mapping into a `Config`.

    Raises:
        ConfigError: the first problem, as `dotted.path: message`.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as exc:
        raise ConfigError(_first_problem(exc)) from exc


def _first_problem(exc: ValidationError) -> str:
    error = exc.errors()[0]
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        section, _, key = path.rpartition(".")
        return f"{path}: {NotFound('setting', key, _keys_of(section))}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{path}: {message}" if path else message


def _keys_of(section: str) -> list[str]:
    model: Any = Config
    for part in filter(None, section.split(".")):
        field = getattr(model, "model_fields", {}).get(part)
        model = getattr(field, "annotation", None)
    return list(getattr(model, "model_fields", {}))


def _read(file: str | Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    path = Path(file)
    if not path.is_file():
        raise NotFound("configuration file", str(path), hint="give --config a TOML file")
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: {exc}") from exc


def read_text(path: Path) -> str:
    """Return the text of a file that the user names.

    Raises:
        ConfigError: the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: not UTF-8 at byte {exc.start}; save it as UTF-8") from exc
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc


def _put(tree: dict[str, Any], name: str, value: object) -> None:
    *sections, key = name.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{name}: {section} is a value, not a section")
    tree[key] = value


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
