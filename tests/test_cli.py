"""The command line: one line for what the user can mend, and its exit code."""

from __future__ import annotations

import json

import pytest

from lakeinterp import __version__, cli
from tests.planted import planted_lake


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
