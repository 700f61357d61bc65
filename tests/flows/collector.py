"""A collector of OpenTelemetry on loopback: it keeps the spans and sums that are sent to it."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """The server; a context manager that starts and stops it."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, dict[str, str], bytes, bytes]] = []
        """Name, attributes, id and the parent's id of each."""
        self.sums: Counter[tuple[str, str, str]] = Counter()
        """By counter, step and status or kind; the largest value that was sent."""
        keeper = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                keeper.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, path: str, body: bytes) -> None:
        """Keep what one request holds."""
        if path.endswith("/traces"):
            for found in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in found.scope_spans:
                    self.spans += [
                        (s.name, _attributes(s), s.span_id, s.parent_span_id) for s in scope.spans
                    ]
            return
        for found in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in found.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.sum.data_points:
                        said = _attributes(point)
                        key = (metric.name, said["step"], said.get("status") or said.get("kind"))
                        self.sums[key] = max(self.sums[key], point.as_int or point.as_double)


def _attributes(thing) -> dict[str, str]:
    return {a.key: a.value.string_value or str(a.value.int_value) for a in thing.attributes}
