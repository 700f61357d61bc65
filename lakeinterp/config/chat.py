"""Settings of language models."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from lakeinterp.config.section import Positive, Section
from lakeinterp.terms import TRANSIENT, digest

_Seconds = Annotated[float, Field(ge=0)]
_Price = Annotated[float, Field(ge=0)]
_SECRET = re.compile(r"authori[sz]ation|cookie|password|(^|-)(api-?)?(key|token|secret)$", re.I)
"""Names of headers that hold what must not stand in a file."""


class Deployment(Section):
    """One language model behind an OpenAI-compatible address or a provider LiteLLM knows."""

    model: str
    """LiteLLM name: `hosted_vllm/NAME`, `openrouter/VENDOR/NAME`, `openai/NAME`, …"""
    api_base: Annotated[str, Field(min_length=1)] | None = None
    """Address, for example `http://localhost:8000/v1`; None for the provider's own."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; the key itself is never stored."""
    headers: dict[str, str] = Field(default={})
    """Sent with every request; what is secret goes into `headers_env`."""
    headers_env: dict[str, str] = Field(default={})
    """Header to the environment variable that holds its value, which is never stored."""
    body: dict[str, Any] = Field(default={})
    """Sent in every request beside what lakeinterp sends: `chat_template_kwargs`, `provider`, …"""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the calls among deployments of one route."""
    max_concurrency: Positive | None = None
    """Calls in flight at one time; None leaves it to `chat.concurrency`."""
    requests_per_minute: Positive | None = None
    """HTTP requests a minute, retries too, of this process; None is no limit."""
    tokens_per_minute: Positive | None = None
    """Tokens a minute, of prompts and replies, of this process; None is no limit."""
    input_cost_per_token: _Price | None = None
    """US dollars; None takes LiteLLM's price table, and the cost is unknown if it has none."""
    output_cost_per_token: _Price | None = None
    """US dollars; as above."""

    @property
    def name(self) -> str:
        """The model and, as a digest, what is sent besides: two names, two kinds of replies."""
        return f"{self.model}+{digest(self.body, size=4)}" if self.body else self.model

    def __hash__(self) -> int:
        return hash(self.digest())

    @field_validator("headers")
    @classmethod
    def _holds_no_secret(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in filter(_SECRET.search, headers):
            raise ValueError(f"{name} is a secret: name the variable that holds it in headers_env")
        return headers


class RouteConfig(Section):
    """Deployments that may answer one kind of request."""

    deployments: tuple[Deployment, ...] = ()
    """Tried by weight."""
    fallbacks: tuple[Deployment, ...] = ()
    """Tried in order when every deployment has failed."""
    max_concurrency: Positive | None = None
    """Calls in flight at one time in all of them together; None leaves it to `chat.concurrency`."""
    requests_per_minute: Positive | None = None
    """HTTP requests a minute to all of them together; None is no limit."""
    tokens_per_minute: Positive | None = None
    """Tokens a minute of all of them together; None is no limit."""


class VllmConfig(Section):
    """How vLLM is started on this machine, by `lakeinterp llm serve` or for a run."""

    model: str | None = None
    """Name on the hub, or folder: served for as long as a step asks it, by the route that has no
    deployments. None: nothing is started."""
    command: Annotated[tuple[str, ...], Field(min_length=1)] = ("vllm",)
    """Program and its first arguments; `serve MODEL` follows. `["/opt/vllm/bin/vllm"]` takes that
    of another environment."""
    name: str | None = None
    """What the model is called in requests and replies; None: as it was given."""
    port: Annotated[int, Field(gt=0, lt=65536)] | None = None
    """On loopback; None takes a free one."""
    tensor_parallel: Positive = 1
    """Devices that share the model."""
    max_model_len: Positive | None = None
    """Longest prompt and reply together, in tokens; None takes the model's."""
    memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Of each device's memory."""
    dtype: str = "auto"
    """Of weights and activations."""
    start_timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    """Longest wait until it answers; the weights may have to be fetched."""
    restarts: Annotated[int, Field(ge=0)] = 1
    """How often it is started again when it ends by itself."""
    arguments: tuple[str, ...] = ()
    """Further arguments of `vllm serve`; they win over the ones above."""


class ChatConfig(Section):
    """How language models are spoken to."""

    explainer: RouteConfig = RouteConfig()
    """Writes explanations."""
    judge: RouteConfig = RouteConfig()
    """Judges them; empty takes the explainer's route."""
    vllm: VllmConfig = VllmConfig()
    """Serves a model on this machine."""
    concurrency: Positive = 32
    """Calls in flight at one time."""
    workers: Positive = 1
    """Processes that share the units of a step, and all limits; one makes 100 to 190 calls/s."""
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Longest wait for one reply."""
    attempts: Positive = 4
    """Tries of one call, waits between them included in no timeout."""
    retry_wait_s: _Seconds = 1.0
    """First wait between tries; doubles, with jitter, and honours what the provider asks for."""
    max_wait_s: _Seconds = 300.0
    """A provider that asks for a longer wait is not waited for."""
    circuit_failures: Positive | None = 8
    """Failures in a row after which a deployment rests, but for single probes; None: never."""
    circuit_s: Annotated[float, Field(gt=0)] = 5.0
    """First such rest; doubles with each failed probe, to a minute at most."""
    outage_s: _Seconds = 120.0
    """How long calls wait while every deployment rests; after that they fail until one answers."""
    structured: Literal["auto", "always", "never"] = "auto"
    """Ask for a JSON schema: `auto` asks, and stops asking a route that refuses it."""
    offline: bool = False
    """Answer from stored replies alone; a request without one is an error that names its key."""
    reread: bool = False
    """Read the stored replies of `parse_failed` rows again; nobody is asked, other rows stay."""
    budget_usd: Annotated[float, Field(ge=0)] | None = None
    """Most US dollars that this lake's replies may cost in all; None is no limit."""
    budget_tokens: Annotated[int, Field(ge=0)] | None = None
    """Most tokens, of prompts and replies, of this lake's replies in all; None is no limit."""
    journal: str | None = None
    """Local folder of the journal and the budget; None: `_journal` in a local lake, else in
    `$XDG_STATE_HOME`."""

    @property
    def tried_again(self) -> list[str]:
        """Statuses of rows that a run does again."""
        return sorted(TRANSIENT | ({"parse_failed"} if self.reread else set()))
