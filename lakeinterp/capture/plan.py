"""What a capture is and which of its shards are left: written down before the first row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lakeinterp.errors import ConfigError
from lakeinterp.lake import commits, schema, shards, where
from lakeinterp.lake.activations import bucket_latents
from lakeinterp.lake.fit import as_table
from lakeinterp.lake.shards import Shards
from lakeinterp.lake.tables import literal
from lakeinterp.terms import digest, now

if TYPE_CHECKING:
    from lakeinterp.capture.check import Check
    from lakeinterp.capture.model import SubjectModel
    from lakeinterp.capture.points import Point
    from lakeinterp.coders import CoderFolder
    from lakeinterp.config import Config
    from lakeinterp.corpus import Tokenizer
    from lakeinterp.lake import Lake

_OF_THIS_MACHINE = {"device", "devices", "shards"}
"""Settings that decide no row and differ between those that share a capture."""
_PACKAGES = ("torch", "transformers", "nnsight", "deltalake", "pyarrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One capture, as far as its rows depend on it."""

    capture: str
    corpus: str
    n_sequences: int
    """Sequences asked for; the corpus may end before."""
    shard_sequences: int
    context_tokens: int
    identity: dict[str, Any]
    """Everything that decides a row; equal for a run that continues this capture."""

    @property
    def shards(self) -> Shards:
        """The shards it is cut into."""
        return Shards(self.capture, self.n_sequences, self.shard_sequences)


def shards_of(config: Config, capture: str) -> Shards:
    """Return the shards that a capture of these settings is cut into."""
    context = config.corpus.context_tokens
    settings = config.capture
    return Shards(capture, settings.n_tokens // context, settings.shard_tokens // context)


def make_plan(
    config: Config, corpus: str, model: SubjectModel, coders: CoderFolder, tokenizer: Tokenizer
) -> Plan:
    """Name the capture and cut it into shards.

    Raises:
        ConfigError: not even one sequence is asked for.
    """
    settings, context = config.capture, config.corpus.context_tokens
    identity = {
        "model": model.revision,
        "coders": coders.revision,
        "hookpoints": [spec.hookpoint for spec in coders.specs],
        "reads": [[s.format, s.architecture, s.module, s.site, s.k] for s in coders.specs],
        "control": settings.control,
        "corpus": corpus,
        "tokenizer": tokenizer.digest,
        "dtype": model.dtype,
        "value_dtype": settings.value_dtype,
        "shard_tokens": settings.shard_tokens,
        "n_buckets": settings.n_buckets,
    }
    if settings.quantization != "none":
        identity["quantization"] = settings.quantization
    if settings.document_attention:
        identity["document_attention"] = True
    if settings.n_tokens < context:
        raise ConfigError(
            f"capture.n_tokens: {settings.n_tokens} is less than one sequence of {context} tokens"
        )
    name = settings.model.rstrip("/").rsplit("/", 1)[-1]
    control = "" if settings.control == "none" else f"-{settings.control}"
    return Plan(
        capture=settings.name or f"{name}{control}-{digest(identity, size=4)}",
        corpus=corpus,
        n_sequences=settings.n_tokens // context,
        shard_sequences=settings.shard_tokens // context,
        context_tokens=context,
        identity=identity,
    )


def check_same(lake: Lake, plan: Plan) -> None:
    """Stop before two captures are mixed.

    Raises:
        ConfigError: the lake holds a capture of this name made with other settings.
    """
    for row in lake.rows("captures", where(capture=plan.capture)):
        earlier = json.loads(row["config"])["identity"]
        keys = sorted(earlier.keys() | plan.identity.keys())
        differing = [key for key in keys if earlier.get(key) != plan.identity.get(key)]
        if differing:
            raise ConfigError(
                f"capture.name: the lake holds a capture {plan.capture!r} with another "
                f"{', '.join(differing)}; choose another name"
            )


def write_plan(
    lake: Lake, plan: Plan, config: Config, coders: CoderFolder, model_revision: str,
    tokenizer: Tokenizer,
) -> None:  # fmt: skip
    """Write the capture's row, and the vocabulary if the lake does not hold it."""
    earlier = lake.rows("captures", where(capture=plan.capture))
    if not lake.rows("vocabulary", where(tokenizer=tokenizer.digest, token_id=0)):
        lake.upsert("vocabulary", tokenizer.vocabulary(), scope={"tokenizer": tokenizer.digest})
    row = {
        "capture": plan.capture,
        "created_at": earlier[0]["created_at"] if earlier else now(),
        "model": config.capture.model,
        "model_revision": model_revision,
        "tokenizer": tokenizer.digest,
        "coder": coders.name,
        "coder_revision": coders.revision,
        "corpus": plan.corpus,
        "context_tokens": plan.context_tokens,
        "excluded": tokenizer.special,
        "value_dtype": config.capture.value_dtype,
        "config": json.dumps(
            {
                "identity": plan.identity,
                "capture": config.capture.model_dump(mode="json", exclude=_OF_THIS_MACHINE),
                "corpus": config.corpus.model_dump(mode="json"),
            }
        ),
        "versions": json.dumps({name: version(name) for name in _PACKAGES}),
    }
    if not earlier or _changed(earlier[0], row):
        lake.upsert("captures", [row], scope={"capture": plan.capture})


def write_hookpoint(lake: Lake, plan: Plan, point: Point, check: Check,
                    n_buckets: int | None) -> None:  # fmt: skip
    """Write a hookpoint's row with what was measured of its coder and what was published.

    What another process has written meanwhile stays: all encode with what was measured first.
    """
    spec = point.coder.spec
    checks = {
        "n_tokens": check.n_tokens,
        "silent_share": check.silent_share,
        "l0": check.l0,
        "explained_variance": check.explained_variance,
        "published_l0": spec.published_l0,
        "published_explained_variance": spec.published_explained_variance,
        "input_scale": point.coder.inputs.scale,
    }
    row = {
        "capture": plan.capture,
        "hookpoint": spec.hookpoint,
        "format": spec.format,
        "architecture": spec.architecture,
        "site": point.read.site,
        "module": point.read.module,
        "d_in": spec.d_in,
        "n_latents": spec.n_latents,
        "bucket_latents": bucket_latents(spec.n_latents, n_buckets),
        "k": spec.k,
        "l0": check.l0,
        "explained_variance": check.explained_variance,
        "checks": json.dumps(checks),
    }
    _insert(lake, row)


def write_dropped(lake: Lake, capture: str) -> int:
    """Write into `hookpoints.checks` how many activations were left out; return their number."""
    rows = lake.rows("hookpoints", where(capture=capture))
    found = shards.dropped(lake, capture, [row["hookpoint"] for row in rows])
    changed = []
    for row in rows:
        checks = json.loads(row["checks"])
        if checks.get("n_nonfinite", 0) != found[row["hookpoint"]]:
            checks["n_nonfinite"] = found[row["hookpoint"]]
            changed.append({**row, "checks": json.dumps(checks)})
    lake.upsert("hookpoints", changed, scope={"capture": capture})
    return sum(found.values())


def _insert(lake: Lake, row: dict[str, Any]) -> None:
    """Write a hookpoint's row unless there is one."""
    source = as_table(schema.table("hookpoints"), [row])
    keys = ("capture", "hookpoint")
    matches = [f"target.{key} = source.{key}" for key in keys]
    matches += [f"target.{key} = {literal(row[key])}" for key in keys]

    def attempt() -> None:
        delta = lake.create("hookpoints")
        merge = delta.merge(source, " AND ".join(matches), "source", "target")
        merge.when_not_matched_insert_all().execute()

    commits.retried("hookpoints", attempt)


def _changed(earlier: dict[str, Any], row: dict[str, Any]) -> bool:
    return any(earlier[key] != row[key] for key in ("config", "model", "versions"))
