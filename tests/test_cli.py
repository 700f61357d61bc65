"""The command line: one line for what the user can mend, and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lakeinterp import __version__, cli
from tests.planted import planted_lake

ROOT = Path(__file__).parents[1]


@pytest.fixture
def lake(tmp_path):
    return planted_lake(str(tmp_path / "lake")).lake.root


def test_version_is_printed(capsys):
    assert cli.run(["version"]) == 0
    assert capsys.readouterr().out == f"lakeinterp {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["captur"], "captur"),
        (["sql"], "give a statement or --file"),
        (["sql", "SELECT 1", "--format", "yaml"], "yaml"),
        (["sample", "--hookpoint", "x"], "--hookpoint"),
        (["status", "--set", "sampling.sed=3"], "did you mean 'seed'"),
        (["capture", "--n-tokens", "many"], "n-tokens"),
        (["explain", "--explainer", "patern"], "did you mean 'pattern'"),
        (["score", "--scorers", "fuzing"], "did you mean 'fuzzing'"),
        (["sample", "--capture", "plantd"], "did you mean 'planted'"),
        (["sample", "--hookpoints", "layers.1"], "did you mean 'layers.0'"),
        (["sql", "SELECT latnt FROM latents"], "latent"),
        (["run", "model", "--explainer", "default"], "chat.explainer"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(lake, arguments, message, capsys):
    lake_option = [] if arguments == ["captur"] else ["--lake", lake]
    assert cli.run([*arguments, *lake_option]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert "Traceback" not in shown.err


def test_commands_on_nothing_say_what_makes_a_lake(tmp_path, capsys):
    for command in ("status", "report", "sample", "explain", "score"):
        assert cli.run([command, "--lake", str(tmp_path / "none")]) == 2
        assert "lakeinterp capture" in capsys.readouterr().err, command
    assert not (tmp_path / "none").exists()


def test_sql_writes_every_format(lake, tmp_path, capsys):
    query = "SELECT latent, count(*) AS n FROM activations GROUP BY latent ORDER BY latent LIMIT 2"
    assert cli.run(["sql", query, "--lake", lake, "--format", "csv"]) == 0
    assert capsys.readouterr().out.replace('"', "").splitlines()[0] == "latent,n"
    assert cli.run(["sql", query, "--lake", lake, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["latent"] for row in rows] == [0, 1]
    target = tmp_path / "out.parquet"
    options = ["--format", "parquet", "--output", str(target)]
    assert cli.run(["sql", query, "--lake", lake, *options]) == 0
    import pyarrow.parquet as pq

    assert pq.read_table(target).num_rows == 2


def test_sql_is_read_from_a_file(lake, tmp_path, capsys):
    (tmp_path / "q.sql").write_text("-- all of them\nSELECT count(*) AS n FROM sequences;\n")
    assert cli.run(["sql", "--file", str(tmp_path / "q.sql"), "--lake", lake]) == 0
    assert "200" in capsys.readouterr().out


def test_traceback_is_shown_when_asked_for(tmp_path, capsys):
    assert cli.run(["status", "--lake", str(tmp_path), "--traceback"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_doctor_says_what_is_there_and_which_route_is_not(tmp_path, capsys):
    assert cli.run(["doctor", "--lake", str(tmp_path)]) == 0
    assert "duckdb" in capsys.readouterr().out
    dead = 'chat.explainer={deployments=[{model="x/y", api_base="http://127.0.0.1:9/v1"}]}'
    assert cli.run(["doctor", "--lake", str(tmp_path), "--set", dead]) == 3
    assert "does not answer" in capsys.readouterr().out


def asked(**routes: str) -> list[str]:
    values = {
        f"chat.{route}": f'{{deployments = [{{model = "{m}"}}]}}' for route, m in routes.items()
    }
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


def test_missing_route_is_told_before_anything_is_captured(lake, capsys):
    only_judge = asked(judge="openai/x")
    assert cli.run(["run", "m", "--explainer", "default", "--lake", lake, *only_judge]) == 2
    assert "chat.explainer.deployments: no language model" in capsys.readouterr().err
    needed = ["--explainer", "pattern", "--scorers", "fuzzing"]
    assert cli.run(["run", "m", *needed, "--lake", lake]) == 2
    assert "deployments: no language model" in capsys.readouterr().err
    assert cli.run(["run", "m", *needed, "--lake", lake, *only_judge]) == 2
    assert "capture.coder" in capsys.readouterr().err


_WAITS = """
import sys, time
from lakeinterp import cli

app = cli.make_app()

@app.command
def wait() -> None:
    print("ready", file=sys.stderr, flush=True)
    time.sleep(60)

sys.exit(cli.run(["wait"], app))
"""


def test_interrupt_is_one_line_and_exit_code_130():
    with subprocess.Popen(
        [sys.executable, "-c", _WAITS],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        shown = process.stderr.read()
    assert shown == "error: interrupted; the same command continues where this one stopped\n"
    assert process.returncode == 130


@pytest.mark.parametrize("options", [[], ["--format", "csv"], ["--format", "json"]])
def test_reader_that_stops_early_is_no_error(lake, options):
    long = "SELECT x, repeat('x', 200) AS t FROM range(200000) t(x)" if options else "SELECT 1 AS a"
    with subprocess.Popen(
        [sys.executable, "-m", "lakeinterp", "sql", long, "--lake", lake, *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        shown = process.stderr.read()
    assert (process.returncode, shown) == (0, b"")


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_sql_finds_the_format_in_the_name_of_the_output(lake, tmp_path, ending, capsys):
    import duckdb

    target = tmp_path / f"answer.{ending.upper()}"
    query = "SELECT x FROM range(70) t(x)"
    assert cli.run(["sql", query, "--lake", lake, "--output", str(target)]) == 0
    assert "70 rows" in capsys.readouterr().err
    reader = f"read_{ending}{'_auto' if ending == 'json' else ''}"
    assert duckdb.sql(f"SELECT count(*), max(x) FROM {reader}('{target}')").fetchall() == [(70, 69)]


def test_sql_writes_no_table_into_a_file(lake, tmp_path, capsys):
    for name, options in (("a.txt", []), ("a.csv", ["--format", "table"])):
        target = tmp_path / name
        assert cli.run(["sql", "SELECT 1", "--lake", lake, "--output", str(target), *options]) == 2
        assert "csv" in capsys.readouterr().err
        assert not target.exists()


def test_sql_file_that_is_not_utf8_is_named(lake, tmp_path, capsys):
    (tmp_path / "q.sql").write_bytes(b"SELECT '\xe9'")
    assert cli.run(["sql", "--file", str(tmp_path / "q.sql"), "--lake", lake]) == 2
    assert "q.sql: not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["explain", "score", "report"])
def test_steps_say_which_one_is_missing_before_them(tmp_path, command, capsys):
    fresh = planted_lake(str(tmp_path / "lake")).lake.root
    assert cli.run([command, "--lake", fresh]) == 2
    assert "run `lakeinterp sample` first" in capsys.readouterr().err


def test_score_says_that_nothing_is_explained(tmp_path, capsys):
    fresh = ["--lake", planted_lake(str(tmp_path / "lake")).lake.root]
    for setting in ("window_tokens=8", "min_windows=5", "max_latents=2"):
        fresh += ["--set", f"sampling.{setting}"]
    assert cli.run(["sample", *fresh]) == 0
    assert cli.run(["score", *fresh]) == 2
    assert "run `lakeinterp explain --explainer pattern`" in capsys.readouterr().err
    assert cli.run(["explain", *fresh]) == 0
    assert cli.run(["score", *fresh]) == 0


def test_a_hookpoint_without_chosen_latents_is_no_missing_step(tmp_path):
    fresh = ["--lake", planted_lake(str(tmp_path / "lake")).lake.root]
    fresh += ["--set", "sampling.window_tokens=8", "--set", "sampling.min_windows=1000000"]
    for command in ("sample", "explain", "score", "report"):
        assert cli.run([command, *fresh]) == 0, command


@pytest.mark.parametrize("command", ["demo", "capture", "plan", "run"])
def test_a_package_that_is_not_installed_is_one_line(tmp_path, command):
    """Without torch, as after `pip install lakeinterp` alone."""
    hidden = "import sys; sys.modules['torch'] = None; from lakeinterp import cli; "
    more = [] if command == "demo" else ["m", "c", "--dataset", "t.txt", "--n-tokens", "9999"]
    arguments = [command, *more, "--lake", str(tmp_path / "lake")]
    done = subprocess.run(
        [sys.executable, "-c", f"{hidden}sys.exit(cli.run({arguments!r}))"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1] == (
        "error: this command needs torch, which is not installed: pip install 'lakeinterp[capture]'"
    )
