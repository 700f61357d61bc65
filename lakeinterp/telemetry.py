"""Traces and metrics through OpenTelemetry, where its own environment variables ask for them.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or the one of traces or metrics alone) turns them on; every other
`OTEL_*` variable means what OpenTelemetry says. Without one nothing is imported and nothing
happens. Spans are named after steps and units; counters are `lakeinterp.rows`, `lakeinterp.calls`,
`lakeinterp.tokens` and `lakeinterp.cost` (US dollars), with the step as an attribute.
"""

from __future__ import annotations

import functools
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from lakeinterp import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from opentelemetry.context import Context

    class Calls(Protocol):
        """What language model calls came to."""

        n_calls: int
        prompt_tokens: int
        completion_tokens: int
        cost_usd: float


P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)
_ENDPOINT = "OTEL_EXPORTER_OTLP_{}ENDPOINT"
_UNITS = {"rows": "{row}", "calls": "{call}", "tokens": "{token}", "cost": "USD"}


def is_on() -> bool:
    """Whether the environment names a place to send to."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return any(os.environ.get(_ENDPOINT.format(kind)) for kind in ("", "TRACES_", "METRICS_"))


@contextmanager
def span(name: str, **attributes: str | int | float) -> Iterator[None]:
    """Time a block; an exception marks its span as failed and goes on.

    Args:
        name: Of a step, or of a step's unit as `explain unit`.
        attributes: What it is about; the run's id is added.
    """
    tools = _tools() if is_on() else None
    if tools is None:
        yield
        return
    found = {f"lakeinterp.{k}": v for k, v in {"run": logs.run_id(), **attributes}.items()}
    with tools.span(name, found):
        yield


def past(name: str, began_s: float, **attributes: str | int | float) -> None:
    """Tell of something that began at a time of `time.time()` and ends now."""
    tools = _tools() if is_on() else None
    if tools is not None:
        found = {f"lakeinterp.{k}": v for k, v in {"run": logs.run_id(), **attributes}.items()}
        made = tools.tracer.start_span(name, start_time=int(began_s * 1e9), attributes=found)
        made.end()


def traced(
    name: str,
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Time every call of a coroutine function whose second argument is a unit."""

    def around(
        function: Callable[P, Coroutine[Any, Any, T]],
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        @functools.wraps(function)
        async def timed(*args: P.args, **more: P.kwargs) -> T:
            with span(name, unit=str(args[1] if len(args) > 1 else more["unit"])):
                return await function(*args, **more)

        return timed

    return around


def count(name: str, amount: float, **attributes: str) -> None:
    """Add to the counter `lakeinterp.<name>`; nothing is added for 0."""
    tools = _tools() if amount and is_on() else None
    if tools is not None:
        tools.counter(name).add(amount, attributes)


def asked(step: str, rows: Mapping[str, int], stats: Calls | None) -> None:
    """Count what a step wrote, by status, and what its calls came to."""
    for status, n in rows.items():
        count("rows", n, step=step, status=status)
    if stats is not None:
        count("calls", stats.n_calls, step=step)
        count("tokens", stats.prompt_tokens, step=step, kind="prompt")
        count("tokens", stats.completion_tokens, step=step, kind="completion")
        count("cost", stats.cost_usd, step=step)


def flush() -> None:
    """Send what waits to be sent; processes that end without Python's own end call this."""
    if is_on() and (tools := _tools()) is not None:
        tools.flush()


class _Tools:
    """The tracer and the counters of this process."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace

        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            _provide()
        self.tracer = trace.get_tracer("lakeinterp")
        self._meter = metrics.get_meter("lakeinterp")
        self._counters: dict[str, Any] = {}
        self._step: Context | None = None

    @contextmanager
    def span(self, name: str, attributes: Mapping[str, Any]) -> Iterator[None]:
        """Time a block; in a thread that knows of no span, it belongs to the step that is on."""
        from opentelemetry import context, trace

        is_inside = trace.get_current_span().get_span_context().is_valid
        within = None if is_inside else self._step
        with self.tracer.start_as_current_span(name, context=within, attributes=attributes):
            is_step = self._step is None
            if is_step:
                self._step = context.get_current()
            try:
                yield
            finally:
                if is_step:
                    self._step = None

    def counter(self, name: str) -> Any:
        """Return a counter, made when first asked for."""
        if name not in self._counters:
            made = self._meter.create_counter(f"lakeinterp.{name}", unit=_UNITS.get(name, "1"))
            self._counters[name] = made
        return self._counters[name]

    def flush(self) -> None:
        """Send what waits."""
        from opentelemetry import metrics, trace

        for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
            if hasattr(provider, "force_flush"):
                provider.force_flush()


def _provide() -> None:
    """Set up the library's own exporters; it reads the rest of `OTEL_*` by itself."""
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    os.environ.setdefault("OTEL_SERVICE_NAME", "lakeinterp")
    resource = Resource.create()
    if _wanted("TRACES"):
        tracing = TracerProvider(resource=resource)
        tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(tracing)
    if _wanted("METRICS"):
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=[reader]))


def _wanted(kind: str) -> bool:
    named = (_ENDPOINT.format(""), _ENDPOINT.format(f"{kind}_"))
    off = os.environ.get(f"OTEL_{kind}_EXPORTER", "").lower() == "none"
    return not off and any(os.environ.get(name) for name in named)


@functools.cache
def _tools() -> _Tools | None:
    """Return the tools of this process; None, with a line in the log, where they are missing."""
    try:
        return _Tools()
    except ImportError as exc:
        _log.warning(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set and %s is not installed, so nothing is sent: "
            "pip install 'lakeinterp[otel]'", exc.name or exc,
        )  # fmt: skip
        return None
