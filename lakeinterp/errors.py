"""Every error lakeinterp raises on purpose, named by its remedy.

::

    LakeinterpError
    ├─ ConfigError          stop: the user edits a setting; the message starts with its name
    │   ├─ MissingExtra     stop: an optional package is not installed; the message says which
    │   └─ NotFound         stop: a model, coder, hookpoint or file that is not there
    ├─ LakeError            stop: files break their contract; a rerun will not help
    │   ├─ SchemaError      a table or a row set has other columns, types or features
    │   ├─ QueryError       a SQL statement that is refused or does not run
    │   ├─ AuditFailed      rows that must not exist were found
    │   ├─ StorageError     the disk or the object store refuses; the message says what to do
    │   ├─ DamagedFile      a file that a table names is cut off, changed or gone
    │   └─ Conflict         other writers kept changing the same rows
    ├─ NonFinite            stop: the model or coder produced NaN or infinity
    ├─ Deferred             the reply will come by a batch file; what needs it is left undone
    ├─ BudgetStopped        the next call would exceed the budget; the chat room makes it a status
    └─ SkipUnit             write a row with `.status` and go on with the next latent
        ├─ TooFewExamples
        └─ UnparsableReply

What a language model's server does is a reply's status, no exception. Only the loop over latents
catches `SkipUnit` and `Deferred`; only `lakeinterp.cli.run` catches `LakeinterpError`, with exit
code 2.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class LakeinterpError(Exception):
    """Anything lakeinterp raises on purpose."""


class ConfigError(LakeinterpError):
    """A setting that is wrong, unknown or contradicts another."""


class MissingExtra(ConfigError):
    """An optional package is needed and not installed."""

    def __init__(self, wanted_for: str, extra: str, package: str, hint: str = "") -> None:
        self.extra, self.package = extra, package
        super().__init__(
            f"{wanted_for} needs {package}, which is not installed: "
            f"pip install 'lakeinterp[{extra}]'{hint and f'; {hint}'}"
        )


class NotFound(ConfigError):
    """A named thing that does not exist; the message names the nearest that do."""

    def __init__(self, kind: str, name: str, known: Iterable[str] = (), hint: str = "") -> None:
        self.name, self.known = name, sorted(known)
        super().__init__(_not_found_message(kind, name, self.known, hint))


class LakeError(LakeinterpError):
    """The lake's files break their contract."""


class SchemaError(LakeError):
    """A table or a set of rows whose columns, types or features are not the expected ones."""


class QueryError(LakeError):
    """A SQL statement that is refused or that does not run."""


class AuditFailed(LakeError):
    """An audit returned rows; they are facts that must not hold."""


class StorageError(LakeError):
    """The disk or the object store refuses to read or write."""


class DamagedFile(LakeError):
    """A file that a table names is cut off, changed or gone; the message names it."""


class Conflict(LakeError):
    """Other writers kept changing the same rows until the retries ran out."""


class NonFinite(LakeinterpError):
    """A NaN or infinite activation."""


class BudgetStopped(LakeinterpError):
    """The next call could exceed the budget, so it was not made."""


class Deferred(LakeinterpError):
    """The reply will come by a batch file; what needs it is left undone, without a row."""


class SkipUnit(LakeinterpError):
    """This latent cannot be done; a row says why and the run goes on."""

    status: ClassVar[str] = "skipped"


class TooFewExamples(SkipUnit):
    """The latent has fewer windows, activating ones unless said otherwise, than asked for."""

    status: ClassVar[str] = "too_few_examples"

    def __init__(self, found: int, wanted: int, *, kind: str = "activating") -> None:
        self.found, self.wanted, self.kind = found, wanted, kind
        super().__init__(f"found {found} {kind} windows, need {wanted}")


class UnparsableReply(SkipUnit):
    """A model's reply that does not hold what was asked for; the raw text is kept."""

    status: ClassVar[str] = "parse_failed"

    def __init__(self, reason: str, text: str) -> None:
        self.text = text
        super().__init__(reason)


def _not_found_message(kind: str, name: str, known: list[str], hint: str) -> str:
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    shown = known if len(known) <= 12 else [*known[:12], "…"]
    said = f"unknown {kind} {name!r}"
    if near:
        said += "; did you mean " + " or ".join(repr(n) for n in near) + "?"
    if shown:
        said += f" (known: {', '.join(shown)})"
    return f"{said}; {hint}" if hint else said
