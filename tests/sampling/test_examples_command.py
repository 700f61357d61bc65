"""`lakeinterp examples`: a latent's windows in the terminal."""

from __future__ import annotations

import re

import pytest

from lakeinterp import cli
from tests.lakes import scored_lake
from tests.planted import CAT, HOOKPOINT, THE, WORDS, planted_lake, table_of

SETTINGS = {
    "window_tokens": 16,
    "min_windows": 30,
    "n_quantiles": 5,
    "n_explain": 10,
    "n_score": 10,
    "n_random": 6,
    "n_same_token": 4,
    "n_neighbour": 4,
    "n_nearest": 6,
}
OPTIONS = [o for name, n in SETTINGS.items() for o in ("--set", f"sampling.{name}={n}")]
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SHADE = re.compile("\x1b\\[[0-9;]*m")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    lake = planted_lake(str(tmp_path_factory.mktemp("lake") / "lake")).lake
    assert cli.run(["sample", "--lake", lake.root, *OPTIONS]) == 0
    return lake


def shown(capsys, lake, *arguments):
    assert cli.run(["examples", HOOKPOINT, *arguments, "--lake", lake.root, *OPTIONS]) == 0
    return capsys.readouterr().out


def test_what_is_stored_is_printed_under_its_role_kind_and_quantile(sampled, capsys):
    out = shown(capsys, sampled, "1", "-n", "2", "--top", "0", "--place")
    rows = [row for row in table_of(sampled, "examples").to_pylist() if row["latent"] == 1]
    sections = {(row["role"], row["stratum"], row["quantile"]) for row in rows}
    assert {s[1] for s in sections} == {"activating", "random", "same_token", "neighbour"}
    for role, stratum, quantile in sections:
        here = [
            r for r in rows if (r["role"], r["stratum"], r["quantile"]) == (role, stratum, quantile)
        ]
        quantile_text = f" · quantile {quantile} of 5" if quantile else ""
        title = f"{role} · {stratum.replace('_', ' ')}{quantile_text}"
        of = f"{len(here)} drawn of {here[0]['population']:,} windows"
        assert f"{title}  {of}" in out
    assert out.startswith(f"{HOOKPOINT} latent 1  ok; fires on ")
    assert "nearest by co-occurrence: " in out
    assert "drawn now" not in out
    active = [line for line in out.splitlines() if "«" in line]
    for line in active:
        assert f" {WORDS[THE]} «" in line
    assert any(f"[document {row['document']}, token {row['start']}]" in out for row in rows)
    strongest = max(r["peak"] for r in rows if r["quantile"] == 1 and r["role"] == "explain")
    assert f"{strongest:.3g}" in active[0]


def test_the_strongest_windows_of_all_documents_come_first(sampled, capsys):
    out = shown(capsys, sampled, "1", "--top", "4", "-n", "1")
    title, *lines = out[out.index("strongest") :].split("\n\n")[0].splitlines()
    (counted,) = (row for row in table_of(sampled, "latents").to_pylist() if row["latent"] == 1)
    assert title == f"strongest  4 of {counted['n_windows']:,} windows"
    peaks = [float(line.split()[0]) for line in lines]
    assert len(peaks) == 4
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[0] == pytest.approx(counted["max"], rel=5e-3)
    drawn = [row for row in table_of(sampled, "examples").to_pylist() if row["latent"] == 1]
    assert peaks[3] >= sorted(row["peak"] for row in drawn)[-5]
    assert all("«" in line for line in lines)


def test_role_kind_and_number_choose_what_is_printed(sampled, capsys):
    out = shown(capsys, sampled, "1", "--role", "score", "--stratum", "neighbour", "-n", "1")
    title, line = out[out.index("score") :].splitlines()
    assert title.startswith("score · neighbour  4 drawn of ")
    assert re.search(r"\[latent \d+ fires \(0\.\d\d\)\]$", line)
    assert "strongest" not in out
    assert "explain" not in out


def test_windows_that_the_corpus_lacks_are_told_by_role_and_kind(tmp_path, capsys):
    lake = planted_lake(str(tmp_path / "lake"), n_sequences=60).lake
    more = ["--set", "sampling.n_same_token=1000", "--set", "sampling.latents=1"]
    assert cli.run(["sample", "--lake", lake.root, *OPTIONS, *more]) == 0
    held = [r for r in table_of(lake, "examples").to_pylist() if r["stratum"] == "same_token"]
    said = f"score · same token: {1000 - len(held)} windows short in 1 latent; the corpus has no"
    assert said in capsys.readouterr().out


def test_a_latent_that_is_not_sampled_is_drawn_now_and_not_stored(sampled, tmp_path, capsys):
    lake = planted_lake(str(tmp_path / "lake"), n_sequences=100).lake
    out = shown(capsys, lake, "0")
    assert "drawn now: the lake holds no examples of it with these settings" in out
    assert f" «{WORDS[CAT]}»" in out
    assert "score · random" in out
    assert lake.table("examples") is None


def test_a_latent_without_examples_says_why(sampled, tmp_path, capsys):
    assert "it never fires in the 12," in shown(capsys, sampled, "2")
    few = planted_lake(str(tmp_path / "lake"), n_sequences=10).lake
    out = shown(capsys, few, "7")
    assert re.search(r"it fires in \d+ windows, fewer than sampling.min_windows = 30", out)
    assert "--set sampling.min_windows=1 shows them" in out
    assert "it never fires in the captured tokens" in shown(capsys, few, "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["layers.0", "99"], "layers.0 has latents 0 to 11, not 99"),
        (["layers.1", "3"], "did you mean 'layers.0'"),
        (["layers.0", "3", "-n", "0"], "give a number above zero"),
        (["layers.0", "3", "--top", "-1"], "--top: give a number of windows, not -1"),
        (["layers.0", "3", "--role", "explained"], "explained"),
    ],
)
def test_what_the_user_can_mend_is_one_line(sampled, arguments, message, capsys):
    assert cli.run(["examples", *arguments, "--lake", sampled.root]) == 2
    assert message in capsys.readouterr().err


def test_active_text_is_marked_on_a_terminal_that_is_to_show_no_colour(
    sampled, capsys, monkeypatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = shown(capsys, sampled, "1")
    assert "«" not in coloured
    assert "\x1b[30;48;" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown(capsys, sampled, "1")
    assert "\x1b[30;48;" not in plain
    assert f" {WORDS[THE]} «" in plain


@pytest.mark.parametrize("is_terminal", [False, True])
def test_corpus_text_steers_no_terminal(tmp_path, capsys, monkeypatch, is_terminal):
    lake = scored_lake(str(tmp_path / "lake"), n_sequences=60)
    if is_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
    out = shown(capsys, lake, "1", "-n", "9")
    assert ("\x1b[" in out) == is_terminal
    plain = SHADE.sub("", out)
    assert "<script>alert(1)</script>" in plain
    assert not STEERING.search(plain)
