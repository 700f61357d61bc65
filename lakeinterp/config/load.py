"""Settings from a TOML file, the command line and `--set key=value`."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lakeinterp.config.tree import Config
from lakeinterp.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def load(
    file: str | Path | None = None,
    overrides: Sequence[str] = (),
    values: Mapping[str, object] | None = None,
) -> Config:
    """Build the configuration: defaults, then the file, then `values`, then `key=value` texts.

    Args:
        file: TOML file with the tree's sections as tables.
        overrides: Texts such as `sampling.seed=3`; the value is read as TOML, or as a plain
            string if it is none.
        values: Dotted names and values, as the command line's own arguments give them;
            None values are left out.

    Raises:
        ConfigError: an unknown key, a wrong value, or a file that does not parse; the message
            starts with the dotted name.
        NotFound: the file does not exist.
    """
    tree = _read(file)
    for name, value in (values or {}).items():
        if value is not None:
            _put(tree, name, value)
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: write key=value, for example sampling.seed=3")
        _put(tree, name.strip(), _toml_value(value.strip()))
    tree.setdefault("lake", os.environ.get("LAKEINTERP_LAKE", "lake"))
    return validate(tree)


def validate(tree: Mapping[str, object]) -> Config:
    """Turn a nested mapping into a `Config`.

    Raises:
        ConfigError: the first problem, as `dotted.path: message`.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as exc:
        raise ConfigError(_first_problem(exc)) from exc


def _first_problem(exc: ValidationError) -> str:
    error = exc.errors()[0]
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        section, _, key = path.rpartition(".")
        return f"{path}: {NotFound('setting', key, _keys_of(section))}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{path}: {message}" if path else message


def _keys_of(section: str) -> list[str]:
    model: Any = Config
    for part in filter(None, section.split(".")):
        field = getattr(model, "model_fields", {}).get(part)
        model = getattr(field, "annotation", None)
    return list(getattr(model, "model_fields", {}))


def _read(file: str | Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    path = Path(file)
    if not path.is_file():
        raise NotFound("configuration file", str(path), hint="give --config a TOML file")
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: {exc}") from exc


def read_text(path: Path) -> str:
    """Return the text of a file that the user names.

    Raises:
        ConfigError: the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: not UTF-8 at byte {exc.start}; save it as UTF-8") from exc
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc


def _put(tree: dict[str, Any], name: str, value: object) -> None:
    *sections, key = name.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{name}: {section} is a value, not a section")
    tree[key] = value


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return _json_value(text) if text.lstrip().startswith(("[", "{")) else text


def _json_value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise ConfigError(f"--set: {text}: neither TOML nor JSON: {exc}") from exc
