"""The tables of a lake: columns, grain and partitions. Every write names one of these."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from lakeinterp.errors import NotFound

VERSION = "2"
"""Of the tables below; stored in each table's Delta metadata under `VERSION_KEY`."""
VERSION_KEY = "lakeinterp.version"
CONFIGURATION: dict[str, str | None] = {VERSION_KEY: VERSION, "delta.checkpointInterval": "20"}
"""Of every table. To open one reads its log from the last checkpoint on, 0.3 ms a commit."""

_TIME = pa.timestamp("us", tz="UTC")
_UNIT: tuple[tuple[str, pa.DataType], ...] = (("capture", pa.string()), ("hookpoint", pa.string()))


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the lake."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    """The grain: no two rows share these."""
    partition: tuple[str, ...]
    about: str

    @property
    def columns(self) -> list[str]:
        """Names of the columns in their order."""
        return list(self.schema.names)


def _table(
    name: str,
    about: str,
    *columns: tuple[str, pa.DataType],
    key: tuple[str, ...],
    partition: tuple[str, ...] = (),
) -> Table:
    return Table(name, pa.schema(list(columns)), key, partition, about)


_SPAN = pa.struct([("document", pa.int64()), ("start", pa.int32())])
_BAR = pa.struct([("low", pa.float64()), ("high", pa.float64()), ("count", pa.int64())])
_MOVED = pa.struct([("token_id", pa.int32()), ("text", pa.string()), ("logit", pa.float32())])
_TOKEN_COUNT = pa.struct([("token_id", pa.int32()), ("count", pa.int64()), ("pmi", pa.float64())])

_ALL = (
    _table(
        "captures",
        "One pass of a model and its coders over a corpus.",
        ("capture", pa.string()),
        ("created_at", _TIME),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("tokenizer", pa.string()),
        ("coder", pa.string()),
        ("coder_revision", pa.string()),
        ("corpus", pa.string()),
        ("context_tokens", pa.int32()),
        ("excluded", pa.list_(pa.int32())),
        ("value_dtype", pa.string()),
        ("config", pa.string()),
        ("versions", pa.string()),
        key=("capture",),
    ),
    _table(
        "hookpoints",
        "One coder of a capture: where it reads, its width and what was measured on load.",
        *_UNIT,
        ("format", pa.string()),
        ("architecture", pa.string()),
        ("site", pa.string()),
        ("module", pa.string()),
        ("d_in", pa.int32()),
        ("n_latents", pa.int32()),
        ("bucket_latents", pa.int32()),
        ("k", pa.int32()),
        ("l0", pa.float64()),
        ("explained_variance", pa.float64()),
        ("checks", pa.string()),
        key=("capture", "hookpoint"),
    ),
    _table(
        "sequences",
        "The corpus as the model saw it; a null document marks tokens of no document. The next "
        "sequence starts next_offset tokens into the source's row next_row.",
        ("corpus", pa.string()),
        ("sequence", pa.int64()),
        ("tokens", pa.list_(pa.int32())),
        ("documents", pa.list_(_SPAN)),
        ("next_row", pa.int64()),
        ("next_offset", pa.int32()),
        key=("corpus", "sequence"),
        partition=("corpus",),
    ),
    _table(
        "vocabulary",
        "Text and bytes of every token, so that no reader needs the tokenizer.",
        ("tokenizer", pa.string()),
        ("token_id", pa.int32()),
        ("text", pa.string()),
        ("bytes", pa.binary()),
        ("special", pa.bool_()),
        key=("tokenizer", "token_id"),
    ),
    _table(
        "activations",
        "Every non-zero activation; token = sequence x context_tokens + position.",
        *_UNIT,
        ("bucket", pa.int32()),
        ("latent", pa.int32()),
        ("token", pa.int64()),
        ("value", pa.float32()),
        key=("capture", "hookpoint", "latent", "token"),
        partition=("capture", "hookpoint", "bucket"),
    ),
    _table(
        "latents",
        "One row for every latent of a coder, dead ones too.",
        *_UNIT,
        ("latent", pa.int32()),
        ("n_activations", pa.int64()),
        ("n_windows", pa.int64()),
        ("n_documents", pa.int64()),
        ("n_tokens", pa.int64()),
        ("density", pa.float64()),
        ("max", pa.float32()),
        ("mean", pa.float32()),
        ("quantiles", pa.list_(pa.float32())),
        ("histogram", pa.list_(_BAR)),
        ("top_tokens", pa.list_(_TOKEN_COUNT)),
        ("top_before", pa.list_(_TOKEN_COUNT)),
        ("top_after", pa.list_(_TOKEN_COUNT)),
        ("single_token", pa.float64()),
        ("special_share", pa.float64()),
        ("first_share", pa.float64()),
        ("position_bias", pa.float64()),
        ("status", pa.string()),
        key=("capture", "hookpoint", "latent"),
        partition=("capture", "hookpoint"),
    ),
    _table(
        "history",
        "What `latents` held of a latent whenever the corpus it was counted over had grown.",
        *_UNIT,
        ("latent", pa.int32()),
        ("n_tokens", pa.int64()),
        ("n_activations", pa.int64()),
        ("n_windows", pa.int64()),
        ("density", pa.float64()),
        ("max", pa.float32()),
        ("mean", pa.float32()),
        ("top_tokens", pa.list_(_TOKEN_COUNT)),
        ("single_token", pa.float64()),
        ("status", pa.string()),
        ("run", pa.string()),
        ("created_at", _TIME),
        key=("capture", "hookpoint", "latent", "n_tokens"),
        partition=("capture", "hookpoint"),
    ),
    _table(
        "outputs",
        "The tokens whose logits each latent's decoder row raises and lowers most.",
        *_UNIT,
        ("latent", pa.int32()),
        ("raised", pa.list_(_MOVED)),
        ("lowered", pa.list_(_MOVED)),
        key=("capture", "hookpoint", "latent"),
        partition=("capture", "hookpoint"),
    ),
    _table(
        "neighbours",
        "The nearest latents of each latent, by several methods.",
        *_UNIT,
        ("latent", pa.int32()),
        ("method", pa.string()),
        ("rank", pa.int32()),
        ("neighbour", pa.int32()),
        ("similarity", pa.float64()),
        key=("capture", "hookpoint", "latent", "method", "rank"),
        partition=("capture", "hookpoint"),
    ),
    _table(
        "examples",
        "Windows chosen for a latent; the explainer and the scorers see different documents.",
        *_UNIT,
        ("bucket", pa.int32()),
        ("sample", pa.string()),
        ("latent", pa.int32()),
        ("example", pa.int32()),
        ("role", pa.string()),
        ("stratum", pa.string()),
        ("quantile", pa.int32()),
        ("document", pa.int64()),
        ("start", pa.int64()),
        ("tokens", pa.list_(pa.int32())),
        ("values", pa.list_(pa.float32())),
        ("peak", pa.float32()),
        ("peak_offset", pa.int32()),
        ("population", pa.int64()),
        ("weight", pa.float64()),
        ("neighbour", pa.int32()),
        ("similarity", pa.float64()),
        key=("capture", "hookpoint", "sample", "latent", "example"),
        partition=("capture", "hookpoint", "bucket"),
    ),
    _table(
        "explanations",
        "What a latent means, by one explainer; a row without text says why in `status`.",
        *_UNIT,
        ("latent", pa.int32()),
        ("explanation", pa.string()),
        ("explainer", pa.string()),
        ("settings", pa.string()),
        ("prompt", pa.string()),
        ("sample", pa.string()),
        ("text", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("reply_keys", pa.list_(pa.string())),
        ("run", pa.string()),
        ("created_at", _TIME),
        key=("capture", "hookpoint", "explanation"),
        partition=("capture", "hookpoint"),
    ),
    _table(
        "judgements",
        "One item put to one scorer: the latent's own explanation, or a borrowed one as the null.",
        *_UNIT,
        ("latent", pa.int32()),
        ("explanation", pa.string()),
        ("scorer", pa.string()),
        ("settings", pa.string()),
        ("role", pa.string()),
        ("explained_latent", pa.int32()),
        ("item", pa.int32()),
        ("example", pa.int32()),
        ("stratum", pa.string()),
        ("quantile", pa.int32()),
        ("population", pa.int64()),
        ("weight", pa.float64()),
        ("document", pa.int64()),
        ("call", pa.int32()),
        ("truth", pa.bool_()),
        ("prediction", pa.bool_()),
        ("probability", pa.float64()),
        ("value", pa.float64()),
        ("values", pa.list_(pa.float32())),
        ("detail", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("reply_keys", pa.list_(pa.string())),
        key=("capture", "hookpoint", "latent", "explanation", "scorer", "settings", "item"),
        partition=("capture", "hookpoint"),
    ),
    _table(
        "scores",
        "One metric of one explanation by one scorer, with its interval, failures and null.",
        *_UNIT,
        ("latent", pa.int32()),
        ("explanation", pa.string()),
        ("scorer", pa.string()),
        ("settings", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("n", pa.int64()),
        ("n_failed", pa.int64()),
        ("null_value", pa.float64()),
        ("corrected", pa.float64()),
        ("p_value", pa.float64()),
        ("status", pa.string()),
        ("run", pa.string()),
        ("created_at", _TIME),
        key=("capture", "hookpoint", "explanation", "scorer", "settings", "metric"),
        partition=("capture", "hookpoint"),
    ),
    _table(
        "replies",
        "Every reply of a language model, kept under a digest of what was asked.",
        ("key", pa.string()),
        ("request", pa.string()),
        ("text", pa.string()),
        ("logprobs", pa.string()),
        ("finish_reason", pa.string()),
        ("model_requested", pa.string()),
        ("model_served", pa.string()),
        ("route", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cost_usd", pa.float64()),
        ("cost_state", pa.string()),
        ("latency_s", pa.float64()),
        ("attempts", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("created_at", _TIME),
        key=("key",),
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _ALL}
"""Every table by name, in the order of the data."""


def table(name: str) -> Table:
    """Return a table's definition.

    Raises:
        NotFound: there is no such table; the message lists them.
    """
    if name not in TABLES:
        raise NotFound("table", name, TABLES)
    return TABLES[name]
