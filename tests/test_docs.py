"""What is written twice is equal: README and commands, terms and rooms, settings and sentences."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from lakeinterp import cli, config
from lakeinterp.lake.schema import TABLES
from tests.test_layers import PACKAGE, rooms

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def shell_lines() -> list[str]:
    text = "\n".join(body for kind, body in BLOCKS if kind == "bash").replace("\\\n", " ")
    text = re.sub(r'"[^"]*"', lambda quoted: " ".join(quoted[0].split()), text)
    return [line.partition("    #")[0].strip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("line", [x for x in shell_lines() if x.startswith("lakeinterp ")])
def test_commands_of_the_readme_parse(line):
    app = cli.make_app()
    app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("body", [body for kind, body in BLOCKS if kind == "toml"])
def test_settings_of_the_readme_are_settings(body):
    config.validate(tomllib.loads(body))


def test_readme_names_every_table_that_is_filled_today():
    for name in TABLES.keys() - {"neighbours"}:
        assert f"`{name}`" in README


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z]+)", README):
        assert f"\n{target}:" in makefile, target


def test_terms_page_lists_every_room():
    page = (ROOT / "docs" / "terms.md").read_text(encoding="utf-8")
    data_rooms = {r for r in rooms() if (PACKAGE / r).is_dir()} - {"commands", "demo", "config"}
    for room in data_rooms | {"flows"}:
        assert f"| `{room}` |" in page


@pytest.mark.parametrize("name", [name for name, *_ in cli._COMMANDS])
def test_every_command_has_help(name, capsys):
    assert cli.run([name, "--help"]) == 0
    assert "Usage: lakeinterp" in capsys.readouterr().out


def test_every_setting_has_a_sentence():
    def check(section: type, path: str = "") -> None:
        for name, field in section.model_fields.items():
            assert field.description, f"{path}{name}"
            if hasattr(field.annotation, "model_fields"):
                check(field.annotation, f"{path}{name}.")

    check(config.Config)


def test_config_command_prints_a_file_that_gives_the_same_settings(capsys):
    from lakeinterp.commands.config import lines

    default = config.load()
    assert config.validate(tomllib.loads("\n".join(lines(default)))) == default


def test_readme_names_every_coder_format():
    from lakeinterp.coders import formats

    for name in [*formats.FORMATS, "neurons"]:
        assert f"`{name}`" in README or f"capture.format={name}" in README, name


def test_readme_says_which_failures_are_tried_again():
    from lakeinterp.terms import TRANSIENT

    said = " ".join(README.split()).partition("that may work later: ")[2].partition(".")[0]
    assert set(re.findall(r"`(\w+)`", said)) == TRANSIENT


@pytest.mark.parametrize(
    "settings",
    [
        {
            "chat.explainer": {
                "deployments": [
                    {"model": "hosted_vllm/a", "api_base": "http://localhost:1/v1", "weight": 0.5},
                    {"model": 'odd "name"\\\n\x7f', "input_cost_per_token": 1e-07},
                ],
                "fallbacks": [{"model": "openrouter/b", "api_key_env": "KEY"}],
            },
            "chat.judge": {"deployments": [{"model": "c", "max_concurrency": 3}]},
        },
        {
            "capture.hookpoints": ["h.0", "h.1"],
            "capture.min_explained_variance": float("-inf"),
            "capture.max_l0_ratio": float("inf"),
            "sampling.latents": [3, 1],
            "corpus.chat": True,
            "report.title": "a\tb \N{GRINNING FACE} ü",
        },
        {"score.scorers": ["detection", "fuzzing"], "chat.budget_usd": 2.5, "lake": "s3://b/lake"},
    ],
)
def test_config_command_prints_what_reads_back_as_the_same_configuration(settings):
    from lakeinterp.commands.config import lines

    made = config.load(values=settings)
    assert config.validate(tomllib.loads("\n".join(lines(made)))) == made
