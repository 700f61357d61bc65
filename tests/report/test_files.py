"""Plots and tables as files of their own, and one latent in a notebook."""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import lakeinterp
from lakeinterp.config import load
from lakeinterp.errors import ConfigError, MissingExtra, NotFound
from lakeinterp.report.files import write_plots, write_tables
from lakeinterp.report.notebook import latent_view
from tests.lakes import HOSTILE, TOO_FEW
from tests.planted import HOOKPOINT
from tests.report.test_page import Page

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def drawn(lake, tmp_path):
    """All plots of the lake, where this machine can draw them."""
    pytest.importorskip("resvg_py", reason="needs resvg_py (extra web)")
    try:
        return write_plots(lake, tmp_path / "plots", load())
    except ConfigError as exc:
        pytest.skip(str(exc))


def test_every_plot_is_a_picture_in_both_forms(drawn):
    stem = "layers.0-default-detection-balanced_accuracy-scores"
    assert {f"{stem}.svg", f"{stem}.png"} <= {path.name for path in drawn}
    for path in drawn:
        if path.suffix == ".svg":
            root = ElementTree.parse(path).getroot()
            assert root.find(f"{SVG}style") is not None
            assert root.get("width") == "272"
            assert not [e for e in root.iter() if e.tag in (f"{SVG}script", f"{SVG}image")]
        else:
            data = path.read_bytes()
            assert data[:8] == b"\x89PNG\r\n\x1a\n"
            assert [int.from_bytes(data[i : i + 4], "big") for i in (16, 20)] == [1088, 520]


def test_bars_of_a_plot_count_every_scored_latent(lake, drawn):
    path = drawn[0].parent / "layers.0-pattern-pattern-balanced_accuracy-scores.svg"
    bars = [e.findtext(f"{SVG}title") for e in ElementTree.parse(path).iter(f"{SVG}rect")]
    counted = [int(re.search(r": (\d+) latents", text)[1]) for text in bars if text]
    scored = lake.rows("scores", "scorer = 'pattern' AND metric = 'balanced_accuracy'")
    assert sum(counted) == sum(row["value"] is not None for row in scored)


def test_without_resvg_plots_say_what_to_install(lake, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lakeinterp\[web\]'"):
        write_plots(lake, tmp_path / "plots", load())
    assert list(tmp_path.iterdir()) == []


def test_every_table_is_the_same_in_both_forms(lake, tmp_path):
    found = write_tables(lake, tmp_path / "tables", load())
    assert len(found) == 18
    for path in found[::2]:
        rows = pq.read_table(path.with_suffix(".parquet"))
        text = pacsv.read_csv(path)
        assert (text.column_names, text.num_rows) == (rows.column_names, rows.num_rows)
    scored = pq.read_table(tmp_path / "tables" / "latents.parquet")["latent"].to_pylist()
    assert scored[0] == 0
    assert len(scored) == len(set(scored)) == 7


@pytest.fixture
def opened(lake):
    return lakeinterp.open(lake.root)


def test_a_notebook_shows_a_latent_without_script_or_request(opened):
    html = opened.latent(HOOKPOINT, HOSTILE)._repr_html_()
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "iframe", "object", "link", "base", "form"}
    assert not [a for _, attrs in page.elements for a in attrs if a.startswith("on")]
    assert "&lt;script&gt;alert" in html
    assert "url(" not in html
    assert page.unclosed == []


def test_the_style_of_a_notebook_touches_nothing_else(opened):
    html = opened.latent(HOOKPOINT, 0)._repr_html_()
    style = html[html.index("<style>") : html.index("</style>")]
    assert style.startswith("<style>@scope (.lakeinterp-latent) {")
    assert style.count("{") == style.count("}")
    assert ":root" not in style
    assert "\nbody {" not in style


def test_a_latent_is_readable_as_text_too(opened):
    text = repr(opened.latent(HOOKPOINT, 0))
    assert text.startswith("layers.0 latent 0, ok\n  pattern: ` cat`\n    pattern, balanced")
    assert re.search(r"balanced accuracy: 0\.98 \(0\.90 to 1\.00, null 0\.\d\d\)", text)
    assert "pattern: (too few examples)" in repr(opened.latent(HOOKPOINT, TOO_FEW))


def test_a_latent_that_is_not_there_is_one_clear_line(opened):
    with pytest.raises(ConfigError, match=r"layers\.0 has latents 0 to 11, not 12"):
        opened.latent(HOOKPOINT, 12)
    with pytest.raises(NotFound, match=r"did you mean 'layers\.0'"):
        opened.latent("layers.1", 0)
    with pytest.raises(NotFound, match="unknown capture 'none'"):
        latent_view(opened, HOOKPOINT, 0, capture="none")
