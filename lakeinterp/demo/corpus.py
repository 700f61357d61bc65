"""The text every machine with Python already has: the standard library's own sources.

A document is one module's source with its docstrings cut out, or one docstring, or one topic
of `pydoc_data/topics.py`. No text occurs twice. A quarter of the modules is held out, chosen by
a digest of the module's path, and a docstring always stays on the side of its module.

Reads the interpreter's standard library; writes nothing.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Part = Literal["train", "heldout"]

HELDOUT_SHARE = 0.25
"""Share of the modules that is held out."""
MIN_DOCSTRING_CHARS = 80
"""Shorter docstrings are cut from the source and yielded nowhere."""
MAX_MODULE_BYTES = 400_000
"""Longer sources are data, not code; `TOPICS` alone is read whatever its length."""
TOPICS = "pydoc_data/topics.py"
"""One dictionary of prose, the language reference: each of its values is a document."""

_SKIPPED_FOLDERS = frozenset(
    {
        "__pycache__",
        "_bundled",
        "dist-packages",
        "idle_test",
        "lib-dynload",
        "lib2to3",
        "msilib",
        "site-packages",
        "test",
        "tests",
    }
)
_SKIPPED_MODULES = frozenset({"html/entities.py", "pydoc_data/__init__.py", "stringprep.py"})
_HOLDS_STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)
_KEPT_ENCODINGS = frozenset({"__init__.py", "idna.py", "punycode.py", "utf_16.py"})


def documents(part: Part, stdlib: Path | None = None) -> Iterator[tuple[str, str]]:
    """Yield the corpus, in an order fixed by the modules' paths.

    Args:
        part: Which side of the split to yield.
        stdlib: Folder of the sources; the running interpreter's by default.

    Yields:
        The document's name and its text. A module is named by its path (`json/decoder.py`),
        a docstring by path and qualified name (`json/decoder.py:JSONDecoder.decode`). A text
        seen before, on either side, is left out. Costs a few seconds: both sides are parsed.
    """
    root = stdlib or Path(sysconfig.get_paths()["stdlib"])
    seen: set[bytes] = set()
    for module in _modules(root):
        for name, text in _module_documents(root, module):
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if digest in seen:
                continue
            seen.add(digest)
            if part_of(module) == part:
                yield name, text


def part_of(module: str) -> Part:
    """Say which side a module is on, from a digest of its path and of nothing else.

    Args:
        module: Posix path relative to the standard library, such as `json/decoder.py`.

    Returns:
        The side of the module and of all its docstrings.
    """
    digest = hashlib.blake2b(module.encode(), digest_size=8, person=b"lakeinterp").digest()
    return "heldout" if int.from_bytes(digest) < HELDOUT_SHARE * 2**64 else "train"


def without_docstrings(source: str) -> tuple[str, list[tuple[str, str]]]:
    """Cut the docstrings out of a module's source.

    Args:
        source: A module's text.

    Returns:
        The source without them, otherwise character for character as it was, and the docstrings
        in the order of the source: qualified name (empty for the module's own) and clean text.

    Raises:
        SyntaxError: The source is not of this interpreter's Python.
    """
    found = sorted(_docstrings(ast.parse(source), ""), key=lambda each: each[1].lineno)
    starts = _line_starts(source)
    kept, position = [], 0
    for _, node in found:
        start, end = _whole_lines(source, *_span(source, starts, node))
        kept.append(source[position:start])
        position = end
    text = "".join([*kept, source[position:]])
    return text, [(name, inspect.cleandoc(str(node.value))) for name, node in found]


def _modules(root: Path) -> list[str]:
    """List the modules that are read, as posix paths relative to `root`, sorted."""
    paths = (path.relative_to(root) for path in root.rglob("*.py"))
    return sorted(path.as_posix() for path in paths if _is_read(path))


def _is_read(path: Path) -> bool:
    if not _SKIPPED_FOLDERS.isdisjoint(path.parts) or path.as_posix() in _SKIPPED_MODULES:
        return False
    # The build's own settings differ between machines and name its folders.
    if path.parts[0].startswith(("_sysconfigdata", "config-")):
        return False
    return path.parts[0] != "encodings" or path.name in _KEPT_ENCODINGS


def _module_documents(root: Path, module: str) -> Iterator[tuple[str, str]]:
    """Yield one module's documents: its source first, then its docstrings."""
    raw = (root / module).read_bytes()
    if len(raw) > MAX_MODULE_BYTES and module != TOPICS:
        return
    try:
        source = raw.decode().replace("\r\n", "\n")
        if module == TOPICS:
            yield from _topics(source)
            return
        text, docstrings = without_docstrings(source)
    except (SyntaxError, UnicodeDecodeError):
        return
    if text.strip():
        yield module, text
    for name, docstring in docstrings:
        if len(docstring) >= MIN_DOCSTRING_CHARS:
            yield f"{module}:{name}", docstring


def _topics(source: str) -> Iterator[tuple[str, str]]:
    """Yield each value of the one dictionary that `TOPICS` assigns."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            for name, text in sorted(ast.literal_eval(node.value).items()):
                yield f"{TOPICS}:{name}", inspect.cleandoc(text)


def _docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, ast.Constant]]:
    """Yield the docstrings at and under `node`, each with its qualified name."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        match node.body:
            case [ast.Expr(value=ast.Constant(value=str()) as constant), *_]:
                yield name, constant
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _HOLDS_STATEMENTS):
            own = getattr(child, "name", None) if isinstance(child, ast.stmt) else None
            yield from _docstrings(child, ".".join(filter(None, (name, own))))


def _line_starts(source: str) -> list[int]:
    """List the offset of each line, counting lines as the parser does."""
    starts = [0]
    for line in source.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    return starts


def _span(source: str, starts: list[int], node: ast.Constant) -> tuple[int, int]:
    """Turn a node's positions, which count UTF-8 bytes, into character offsets."""
    ends = [(node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)]
    start, end = (
        starts[line - 1] + len(source[starts[line - 1] : starts[line]].encode()[:column].decode())
        for line, column in ends
        if line is not None and column is not None
    )
    return start, end


def _whole_lines(source: str, start: int, end: int) -> tuple[int, int]:
    """Widen a span to the whole lines it fills, newline included; leave any other as it is."""
    line_start = source.rfind("\n", 0, start) + 1
    line_end = source.find("\n", end)
    line_end = len(source) if line_end < 0 else line_end + 1
    if source[line_start:start].strip() or source[end:line_end].strip():
        return start, end
    return line_start, line_end
