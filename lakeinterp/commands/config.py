"""`lakeinterp config`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lakeinterp.commands.common import Common, console
from lakeinterp.config import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

_DEFAULT = Common()


def config(common: Common = _DEFAULT) -> None:
    """Show every setting with its value and what it means, as a TOML file that sets them."""
    from rich.text import Text

    out = console()
    for line in lines(common.load()):
        out.print(Text(line), soft_wrap=True)


def lines(section: BaseModel, path: str = "") -> Iterator[str]:
    """Yield a section as TOML with its sentences as comments; unset values are commented out."""
    fields = type(section).model_fields
    nested: list[tuple[str, Any]] = []
    for name, field in fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            nested.append((name, value))
            continue
        yield f"# {' '.join((field.description or '').split())}"
        if field.exclude:
            yield f"# {name} ="
            continue
        yield f"# {name} =" if value is None else f"{name} = {toml(value)}"
    for name, value in nested:
        yield ""
        yield f"[{path}{name}]"
        yield from lines(value, f"{path}{name}.")


def toml(value: object) -> str:
    """Return a value as TOML writes it; what is None in a table is left out."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Section):
        return toml(value.model_dump())
    if isinstance(value, dict):
        pairs = (f"{toml(k)} = {toml(v)}" for k, v in value.items() if v is not None)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    if isinstance(value, str):
        # JSON's escapes are TOML's too; TOML escapes DEL besides.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)
