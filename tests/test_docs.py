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
    data_rooms = {r for r in rooms() if (PACKAGE / r).is_dir()} - {"commands", "demo"}
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
