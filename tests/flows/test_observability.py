"""What a run tells machines: JSON lines, spans and counters, and one id that joins them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakeinterp import cli, logs, telemetry
from lakeinterp.lake import Lake
from tests.flows.collector import Collector
from tests.planted import planted_lake
from tests.rule_driven import answer
from tests.wire import Wire, error

ROOT = Path(__file__).parents[2]
FEW = [
    "sampling.window_tokens=16", "sampling.n_quantiles=4", "sampling.n_explain=8",
    "sampling.n_score=8", "sampling.n_random=8", "sampling.n_explain_negatives=8",
    "sampling.min_windows=5", "sampling.latents=[0, 1]", "score.n_borrowed=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A lake with examples."""
    root = str(tmp_path_factory.mktemp("lake") / "lake")
    planted_lake(root)
    few = [part for setting in FEW for part in ("--set", setting)]
    assert cli.run(["sample", "--lake", root, *few]) == 0
    return root


def command(lake, *arguments, **environment):
    """Run a command as people do; return its code, its output and its log lines."""
    few = [part for setting in FEW for part in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "lakeinterp", *arguments, "--lake", lake, *few],
        cwd=ROOT,
        env={**os.environ, "OTEL_BSP_SCHEDULE_DELAY": "100", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def asking(folder, wire):
    """Write settings that ask a wire."""
    deployment = wire.deployment()
    file = folder / "settings.toml"
    file.write_text(
        '[explain]\nexplainer = "default"\n[score]\nscorers = ["detection"]\n'
        "[chat]\nattempts = 1\nretry_wait_s = 0\n"
        f'[[chat.explainer.deployments]]\nmodel = "{deployment.model}"\n'
        f'api_base = "{deployment.api_base}"\napi_key_env = "{deployment.api_key_env}"\n'
        "input_cost_per_token = 0.001\noutput_cost_per_token = 0.002\n"
    )
    return str(file)


def test_log_lines_are_json_and_carry_the_run_of_the_rows_and_of_the_commits(lake):
    code, _, said = command(lake, "explain", "--log-json")
    assert code == 0
    code, _, refused = command(lake, "explain", "--explainer", "patern", "--log-json")
    assert code == 2
    (line,) = [json.loads(line) for line in refused.splitlines()]
    assert line["level"] == "error"
    assert line["exit_code"] == 2
    assert "did you mean 'pattern'?" in line["message"]
    assert all(json.loads(line)["run"] for line in said.splitlines())

    found = Lake(lake)
    (run,) = {row["run"] for row in found.rows("explanations")}
    newest = found.table("explanations").history(1)[0]
    assert newest["lakeinterp.run"] == run != line["run"]


def test_progress_and_warnings_are_lines_of_the_log_too(capsys):
    with logs.run("r1"), logs.as_json():
        from lakeinterp.commands.common import console

        console(stderr=True).print("score 1 of 2 units")
        logging.getLogger("lakeinterp.chat").warning("slow", extra={"seconds": 3})
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["logger"], first["message"]) == ("lakeinterp.progress", "score 1 of 2 units")
    assert (second["level"], second["seconds"], second["run"]) == ("warning", 3, "r1")
    assert not logs.run_id()


@pytest.mark.slow
def test_spans_and_counters_reach_a_collector(lake, tmp_path):
    with Collector() as collector, Wire(answer) as wire:
        to = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        code, _, said = command(lake, "explain", "--config", asking(tmp_path, wire), **to)
    assert code == 0, said
    (step,) = [own for name, _, own, _ in collector.spans if name == "explain"]
    of_units = [found for name, *found in collector.spans if name == "explain unit"]
    assert {parent for _, _, parent in of_units} == {step}
    assert [a["lakeinterp.unit"][-2:] for a, _, _ in of_units] == ["/0", "/1", "/2"]
    (run,) = {r["run"] for r in Lake(lake).rows("explanations") if r["explainer"] == "default"}
    assert {attributes["lakeinterp.run"] for attributes, _, _ in of_units} == {run}
    sums = collector.sums
    assert sums["lakeinterp.rows", "explain", "ok"] == 2
    assert sums["lakeinterp.calls", "explain", None] == wire.n_requests == 2
    assert sums["lakeinterp.tokens", "explain", "prompt"] == 20
    assert sums["lakeinterp.cost", "explain", None] == pytest.approx(2 * (0.01 + 0.01))


def test_nothing_is_imported_and_nothing_sent_where_nothing_is_configured(lake):
    code = (
        "import sys; from lakeinterp.cli import run;"
        f"run(['sample', '--lake', {lake!r}]);"
        "print('LOADED', *[m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "LOADED"


def test_a_collector_that_is_not_there_stops_nothing(lake):
    to = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    code, out, _ = command(lake, "explain", "--explainer", "none", **to)
    assert code == 0
    assert "explained with none" in out


def test_a_missing_package_is_told_once_and_stops_nothing(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    telemetry._tools.cache_clear()
    try:
        for _ in range(2):
            with telemetry.span("explain"):
                telemetry.count("rows", 1)
    finally:
        telemetry._tools.cache_clear()
    (record,) = caplog.records
    assert "pip install 'lakeinterp[otel]'" in record.getMessage()


def test_an_answer_that_fails_is_counted_with_its_status(lake, tmp_path):
    with Collector() as collector, Wire(lambda _: error(500)) as wire:
        to = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "LAKEINTERP_RUN": "night-7"}
        settings = asking(tmp_path, wire)
        other = ["--set", "explain.max_tokens=99"]
        code, _, _ = command(lake, "explain", "--config", settings, *other, **to)
    assert code == 3
    assert collector.sums["lakeinterp.rows", "explain", "http_error"] == 2
    assert {a["lakeinterp.run"] for _, a, _, _ in collector.spans} == {"night-7"}
