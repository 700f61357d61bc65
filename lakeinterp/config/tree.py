"""The whole tree of settings, and what its sections ask of each other."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic.json_schema import SkipJsonSchema

from lakeinterp.config.capture import CaptureConfig
from lakeinterp.config.chat import ChatConfig
from lakeinterp.config.corpus import CorpusConfig
from lakeinterp.config.judging import ExplainConfig, ScoreConfig
from lakeinterp.config.outputs import FlowsConfig, ReportConfig, ServeConfig
from lakeinterp.config.rescoring import RescoreConfig
from lakeinterp.config.sampling import SamplingConfig
from lakeinterp.config.section import Section


def _texts(options: object) -> object:
    """Let options be written as TOML writes them: `true` and 5 as well as texts."""
    if not isinstance(options, dict):
        return options
    return {k: str(v).lower() if isinstance(v, bool | int) else v for k, v in options.items()}


class Config(Section):
    """The whole tree."""

    lake: str = "lake"
    """Folder or URL of the lake."""
    storage_options: Annotated[SkipJsonSchema[dict[str, SecretStr]], BeforeValidator(_texts)] = (
        Field(default={}, exclude=True, repr=False)
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
    rescore: RescoreConfig = RescoreConfig()
    """What is done again."""
    report: ReportConfig = ReportConfig()
    """The page."""
    serve: ServeConfig = ServeConfig()
    """The served page."""
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
