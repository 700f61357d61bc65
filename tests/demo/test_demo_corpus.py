"""The demo's corpus: what becomes a document, and how the two parts are kept apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lakeinterp.demo.corpus import documents, part_of, without_docstrings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LONG = "Say at some length what this does, " * 3 + "so that it is kept."


def write(root: Path, module: str, source: str | bytes) -> None:
    path = root / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.encode() if isinstance(source, str) else source)


def every_document(root: Path) -> dict[str, str]:
    return {**dict(documents("train", root)), **dict(documents("heldout", root))}


@pytest.fixture(scope="module")
def both_parts() -> dict[str, list[tuple[str, str]]]:
    """Read this interpreter's own library once."""
    return {"train": list(documents("train")), "heldout": list(documents("heldout"))}


def test_docstring_lines_are_cut_and_the_rest_stays_as_it_was():
    source = 'import os  # kept\n\n\ndef f(x):\n    """Doc."""\n    y = "kept"\n    return  y\n'
    text, docstrings = without_docstrings(source)
    assert text == 'import os  # kept\n\n\ndef f(x):\n    y = "kept"\n    return  y\n'
    assert docstrings == [("f", "Doc.")]


def test_docstrings_are_named_by_qualified_name_in_source_order():
    source = (
        '"""Module."""\n'
        'class A:\n    """Class."""\n    async def f(self):\n        r"""Inner."""\n'
        'if True:\n    def g():\n        """Deep."""\n'
    )
    _, docstrings = without_docstrings(source)
    assert docstrings == [("", "Module."), ("A", "Class."), ("A.f", "Inner."), ("g", "Deep.")]


def test_docstring_that_shares_its_line_leaves_the_rest_of_the_line():
    text, _ = without_docstrings('def f(): "Doc."; return 1  # kept\n')
    assert text == "def f(): ; return 1  # kept\n"


def test_positions_hold_after_characters_of_many_bytes():
    text, docstrings = without_docstrings('x = "é中"; y = 1\nclass É: "Doc 中."\nz = 2\n')
    assert text == 'x = "é中"; y = 1\nclass É: \nz = 2\n'
    assert docstrings == [("É", "Doc 中.")]


def test_docstring_spread_over_lines_is_cleaned():
    _, docstrings = without_docstrings('def f():\n    """One.\n\n    Two.\n    """\n')
    assert docstrings == [("f", "One.\n\nTwo.")]


def test_short_docstring_is_cut_but_is_no_document(tmp_path):
    write(tmp_path, "a.py", '"""Short."""\nx = 1\n')
    assert every_document(tmp_path) == {"a.py": "x = 1\n"}


def test_text_seen_before_is_left_out_whatever_its_part(tmp_path):
    for index in range(40):
        write(tmp_path, f"m{index}.py", f'"""{LONG}"""\nx = {index}\n')
    assert {part_of(f"m{index}.py") for index in range(40)} == {"train", "heldout"}
    texts = list(every_document(tmp_path).values())
    assert len(texts) == 41
    assert texts.count(LONG) == 1


@pytest.mark.parametrize(
    "module",
    [
        "test/a.py",
        "idlelib/idle_test/a.py",
        "lib2to3/a.py",
        "site-packages/a.py",
        "__pycache__/a.py",
        "encodings/cp437.py",
        "_sysconfigdata_linux.py",
    ],
)
def test_tests_tables_and_installed_packages_are_not_read(tmp_path, module):
    write(tmp_path, module, "x = 1\n")
    assert every_document(tmp_path) == {}


@pytest.mark.parametrize("source", [b"x = '\xff'\n", "x = (\n", "\n", "x = 1\n" * 100_000])
def test_modules_that_cannot_be_read_or_hold_no_text_are_skipped(tmp_path, source):
    write(tmp_path, "a.py", source)
    assert every_document(tmp_path) == {}


def test_each_topic_is_a_document_of_its_own(tmp_path):
    write(tmp_path, "pydoc_data/topics.py", "topics = {'b': 'Two\\nlines', 'a': 'One'}\n")
    found = every_document(tmp_path)
    assert list(found.items()) == [
        ("pydoc_data/topics.py:a", "One"),
        ("pydoc_data/topics.py:b", "Two\nlines"),
    ]


def test_part_depends_on_the_path_alone():
    known = ["argparse.py", "json/decoder.py", "json/scanner.py", "subprocess.py"]
    assert [part_of(each) for each in known] == ["heldout", "train", "train", "heldout"]


def test_a_docstring_is_on_the_side_of_its_module(both_parts):
    modules = {part: {name.split(":")[0] for name, _ in both_parts[part]} for part in both_parts}
    assert not modules["train"] & modules["heldout"]


def test_no_text_occurs_twice_in_the_standard_library(both_parts):
    texts = [text for part in both_parts.values() for _, text in part]
    names = [name for part in both_parts.values() for name, _ in part]
    assert len(texts) > 3000
    assert len(set(texts)) == len(texts)
    assert len(set(names)) >= 0.99 * len(names)


def test_a_quarter_of_the_text_is_held_out(both_parts):
    def characters(part: Sequence[tuple[str, str]]) -> int:
        return sum(len(text) for _, text in part)

    heldout, train = characters(both_parts["heldout"]), characters(both_parts["train"])
    assert 0.15 < heldout / (heldout + train) < 0.35


def test_reading_again_gives_the_same_documents(both_parts):
    again = documents("train")
    assert [next(again) for _ in range(200)] == both_parts["train"][:200]
