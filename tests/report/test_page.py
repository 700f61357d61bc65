"""The self-contained page: nothing escapes, nothing is hidden, nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from lakeinterp.config import load
from lakeinterp.errors import NotFound
from lakeinterp.lake import Lake
from lakeinterp.report import write_page
from lakeinterp.report.page import TEMPLATES
from tests.lakes import (
    HOSTILE,
    PARSE_FAILED,
    SCORERS,
    STATUSES,
    TOO_FEW,
    UNSCORED,
    scored_lake,
)
from tests.planted import CAPTURE, planted_lake

VOID = {"meta", "input", "br", "img", "link"}
NO_END_TAG = {"tr", "td", "th", "li", "option", "p", "thead", "tbody"}


class Page(HTMLParser):
    """Elements with their attributes, and the text inside the elements that matter."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text, self.unclosed = [], [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self.open and (last := self.open.pop()) != tag:
            if last not in NO_END_TAG:
                self.unclosed.append((last, tag))

    def handle_data(self, data):
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)


@pytest.fixture(scope="module")
def parsed(page):
    return Page(page)


def rows_of(page, pattern=r"<details class=latent id=h0-(\d+) .*?</summary>"):
    return {int(m[1]): m[0] for m in re.finditer(pattern, page, re.DOTALL)}


def body_of(page, latent):
    """Return the markup of one latent, up to the next."""
    return page.split(f"id=h0-{latent} ")[1].split("<details class=latent")[0]


def test_only_our_own_script_is_on_the_page(parsed):
    assert [tag for tag, _ in parsed.elements].count("script") == 1
    assert parsed.text["script"] == [(TEMPLATES / "script.js").read_text(encoding="utf-8")]


def test_hostile_text_adds_no_element_and_no_handler(parsed):
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"img", "iframe", "object", "embed", "link", "base", "form"}
    assert not [a for _, attrs in parsed.elements for a in attrs if a.startswith("on")]
    assert not [a for _, attrs in parsed.elements for a in attrs if a == "style"]


def test_every_element_is_closed_by_its_own_end_tag(parsed):
    assert parsed.unclosed == []


def test_nothing_on_the_page_is_fetched(parsed, page):
    for tag, attrs in parsed.elements:
        for name in ("src", "href", "data", "action", "srcset"):
            assert attrs.get(name, "#").startswith("#"), (tag, attrs)
    assert "url(" not in page
    assert "@import" not in page


def test_the_policy_allows_exactly_the_style_and_script_of_the_page(parsed):
    (policy,) = (
        attrs["content"]
        for tag, attrs in parsed.elements
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (text,) = parsed.text[tag]
        found = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{found}'" in policy


def test_no_character_that_steers_a_screen_reaches_the_page(page):
    steering = [c for c in page if not c.isprintable() and c not in "\n\t"]
    assert steering == []
    assert "⟨202E⟩evil⟨202C⟩" in page


def test_the_title_of_the_settings_is_escaped(page):
    assert "<h1>A &lt;b&gt;title&lt;/b&gt; &amp; more</h1>" in page


def test_template_syntax_in_an_explanation_is_text(page):
    assert "{{ 7*7 }} {% raw %}" in rows_of(page)[HOSTILE]


def test_every_latent_of_the_lake_is_on_the_page_once(page):
    listed = list(rows_of(page))
    rest = page[page.index("Neither explained nor scored") :]
    named = [int(n) for n in re.findall(r'<td class="left x">(\d+)(?=<)', rest)]
    assert sorted(listed + named) == list(range(12))
    assert sorted(named) == sorted([*[i for i, s in STATUSES.items() if s != "dense"], TOO_FEW])


def test_latents_without_explanation_carry_their_reason(page):
    rest = page[page.index("Neither explained nor scored") :]
    assert "never fires in the corpus" in rest
    assert "too few examples: <bdi>found 3 activating windows, need 20</bdi>" in rest


def test_latents_without_a_score_stand_in_their_own_section_and_say_why(page):
    section = page[page.index("Explained, without a score") :]
    rows = rows_of(section)
    assert sorted(rows) == [UNSCORED, 10]
    assert "not scored" in rows[UNSCORED]
    assert "no score: http error, 28 failed" in rows[10]


def test_a_failed_explanation_of_another_explainer_is_named(page):
    assert "parse failed: no explanation in the &lt;reply&gt;" in rows_of(page)[PARSE_FAILED]


def test_latents_come_best_score_first(page, lake):
    scored = page[: page.index("Explained, without a score")]
    listed = list(rows_of(scored))
    value = {
        r["latent"]: r["value"]
        for r in lake.rows("scores", "scorer = 'pattern' AND metric = 'balanced_accuracy'")
        if r["value"] is not None
    }
    assert listed == sorted(value, key=value.__getitem__, reverse=True)


def test_a_score_shows_with_interval_null_and_failures(page, lake):
    for row in lake.rows("scores", "scorer = 'pattern' AND metric = 'balanced_accuracy'"):
        if row["latent"] not in (1, 7, 11):
            continue
        line = rows_of(page)[row["latent"]]
        assert f"<b>{row['value']:.2f}</b>" in line
        assert f"{row['ci_low']:.2f} to {row['ci_high']:.2f}" in line
        assert f"null {row['null_value']:.2f}" in line
        assert "1 failed" in line


def test_a_score_without_null_and_interval_draws_neither(page):
    own = rows_of(page)[9].split("<span class=pair")[1]
    assert "class=i" not in own
    assert "class=z" not in own
    assert "<circle" in own


def test_what_an_explanation_quotes_is_set_as_code(page):
    assert "<bdi><code> cat</code></bdi>" in rows_of(page)[0]


def test_explainers_are_named_as_what_they_are(page):
    assert "pattern rule, no language model" in page
    assert "default by tiny-explainer" in page
    assert "detection by tiny-judge" in page


def test_examples_are_shaded_titled_and_split_by_role_and_quantile(page, lake):
    body = body_of(page, 0)
    explain, score = body.split("Held out for the scorers")
    for column in (explain, score):
        assert [int(q) for q in re.findall(r"Quantile (\d)", column)] == [1, 2, 3, 4, 5]
    assert re.search(r"<b class=h9 title=1\.4\d> cat</b>", body)
    strongest = max(r["peak"] for r in lake.rows("examples", "latent = 0 AND role = 'explain'"))
    assert strongest == pytest.approx(float(re.search(r"<li data-v=([\d.]+)", explain)[1]), abs=0.2)


def test_judged_examples_say_right_wrong_or_failed(page):
    score = body_of(page, 1).split("Held out for the scorers")[1]
    for scorer in (s for scorers in SCORERS.values() for s in scorers):
        assert f"<i>{scorer} ✓</i>" in score
    assert re.search(r"<i class=n>\w+ ✗</i>", score)
    assert re.search(r"<i class=f>\w+ failed</i>", page)


def test_negatives_stand_apart_and_are_not_shaded(page):
    (negatives, *_) = re.findall(r"<details class=neg>.*?</details>", page, re.DOTALL)
    assert "8 random" in negatives
    assert "<b class=h" not in negatives


def test_leading_blanks_and_breaks_of_tokens_stay_visible(page):
    assert "⏎⏎\n    " in page
    assert "white-space: pre-wrap" in page


def test_the_same_lake_gives_the_same_bytes(lake, config, page, tmp_path):
    again = write_page(lake, tmp_path / "deep" / "again.html", config)
    assert again.read_text(encoding="utf-8") == page
    assert [p.name for p in again.parent.iterdir()] == ["again.html"]


def test_latents_beyond_the_limit_are_counted(lake, tmp_path):
    path = write_page(lake, tmp_path / "p.html", load(overrides=["report.max_latents=3"]))
    text = path.read_text(encoding="utf-8")
    assert len(rows_of(text)) == 3
    assert "4 more scored latents are not on this page" in text
    assert "2 more are not on this page" in text


def test_another_explainer_and_scorer_can_lead(lake, tmp_path):
    config = load(overrides=["explain.explainer=default", 'score.scorers=["fuzzing"]'])
    text = write_page(lake, tmp_path / "p.html", config).read_text(encoding="utf-8")
    assert text.index("<option value=0>default · fuzzing") < text.index("pattern rule</option>")


def test_an_unknown_headline_metric_names_those_there_are(lake, tmp_path):
    config = load(overrides=["score.headline=balanced_acuracy"])
    with pytest.raises(NotFound, match="did you mean 'balanced_accuracy'"):
        write_page(lake, tmp_path / "p.html", config)
    assert list(tmp_path.iterdir()) == []


def test_a_lake_that_was_only_captured_has_a_page_too(tmp_path, config):
    lake = planted_lake(str(tmp_path / "lake"), n_sequences=20).lake
    text = write_page(lake, tmp_path / "p.html", config).read_text(encoding="utf-8")
    assert "12 not sampled" in text
    assert "not counted yet" in text


def test_latents_of_several_hookpoints_share_one_list(tmp_path, config):
    lake = scored_lake(str(tmp_path / "lake"), n_sequences=60)
    for name in ("hookpoints", "latents", "explanations", "scores", "examples"):
        rows = [{**r, "hookpoint": "layers.<9>"} for r in lake.rows(name)]
        lake.upsert(name, rows, scope={"capture": CAPTURE, "hookpoint": "layers.<9>"})
    key = {"capture": CAPTURE, "hookpoint": "layers.<9>"}
    sides = {s: [{"token_id": 1, "text": f"<{s}>", "logit": 2}] for s in ("raised", "lowered")}
    lake.upsert("outputs", [{**key, "latent": 1, **sides}], scope=key)
    text = write_page(lake, tmp_path / "p.html", config).read_text(encoding="utf-8")
    ids = re.findall(r"<details class=latent id=(h\d-\d+) ", text)
    assert len(ids) == len(set(ids)) == 18
    assert "<option value=1>layers.&lt;9&gt;</option>" in text
    assert "<small>layers.&lt;9&gt;</small>" in text
    moved = "Makes likelier <code>&lt;raised&gt;</code></p><p class=tokens>Makes less likely"
    assert text.count(f"{moved} <code>&lt;lowered&gt;</code>") == 1


def test_an_empty_lake_is_one_clear_line(tmp_path, config):
    with pytest.raises(NotFound, match="run `lakeinterp capture` first"):
        write_page(Lake(str(tmp_path / "none")), tmp_path / "p.html", config)
