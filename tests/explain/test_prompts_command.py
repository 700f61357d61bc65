"""`lakeinterp prompts`, and prompts of one's own."""

from __future__ import annotations

import pytest

from lakeinterp import cli, prompts
from lakeinterp.errors import ConfigError, NotFound


def said(capsys, *arguments, code=0):
    assert cli.run(["prompts", *arguments]) == code
    found = capsys.readouterr()
    return found.out if code == 0 else found.err


def test_every_shipped_prompt_is_listed_with_its_digest_and_slots(capsys):
    listed = {line.split()[0]: line for line in said(capsys).splitlines()}
    assert set(listed) == set(prompts.shipped())
    assert prompts.load("explain/default_system").digest in listed["explain/default_system"]
    assert "  shipped  $activations_note $reasoning_note" in listed["explain/default_system"]


def test_one_prompt_is_printed_as_it_is(capsys):
    text = prompts.load("explain/contrastive_system").text
    assert said(capsys, "explain/contrastive_system") == text + "\n"


def test_a_copy_can_be_edited_and_is_used(capsys, tmp_path):
    folder = tmp_path / "mine"
    assert f"use them with --prompts {folder}" in said(capsys, "--copy", str(folder))
    copied = sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.md"))
    assert copied == list(prompts.shipped())
    assert prompts.load("score/detection_user", folder).digest == (
        prompts.load("score/detection_user").digest
    )
    mine = folder / "explain" / "default_user.md"
    mine.write_text("Look at $examples")
    (folder / "explain" / "defualt_user.md").write_text("Look at $examples")
    found = said(capsys, "--prompts", str(folder))
    assert prompts.Prompt("x", "Look at $examples").digest in found
    assert "explain/defualt_user.md is no prompt of lakeinterp" in found
    assert "is there already" in said(capsys, "--copy", str(folder), code=2)


def test_what_is_wrong_with_a_folder_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"no folder .*nowhere; `lakeinterp prompts --copy"):
        prompts.load("explain/default_user", tmp_path / "nowhere")
    with pytest.raises(NotFound, match="did you mean 'explain/default_user'"):
        prompts.load("explain/defualt_user", tmp_path)
    (tmp_path / "explain").mkdir()
    (tmp_path / "explain" / "default_user.md").write_bytes(b"\xff\xfe\x00x")
    with pytest.raises(ConfigError, match="cannot be read as UTF-8"):
        prompts.load("explain/default_user", tmp_path)
