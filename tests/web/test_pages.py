"""What the served pages show, over a real server and a real lake."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import fields
from datetime import UTC, datetime
from html import unescape

import pyarrow.parquet as pq
import pytest

from lakeinterp.config import load
from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.lake import Lake
from lakeinterp.report import plots
from lakeinterp.report.drift import Moment
from lakeinterp.report.words import share
from lakeinterp.web.box import Box, Job
from lakeinterp.web.listing import Ask, listing
from lakeinterp.web.shelf import Shelves
from tests.lakes import HOSTILE, TOO_FEW, scored_lake
from tests.planted import CAPTURE, HOOKPOINT, planted_lake
from tests.report.test_page import Page
from tests.web.conftest import served

PAGES = [
    "/",
    "/?q=word",
    "/?sort=p&p_high=0.1&pair=1",
    f"/latent?hookpoint={HOOKPOINT}&latent=0",
    f"/latent?hookpoint={HOOKPOINT}&latent={HOSTILE}",
    "/hookpoints",
    f"/hookpoint?hookpoint={HOOKPOINT}",
    "/runs",
    "/compare",
    "/sql",
    "/reply?key=judge-0",
    "/sql?saved=report/latents",
]


def latents(text):
    return [int(n) for n in re.findall(r'href="/latent\?[^"]*latent=(\d+)[^"]*" aria-label', text)]


@pytest.mark.parametrize("path", PAGES)
def test_hostile_text_adds_no_element_no_handler_and_no_address(ask, path):
    answer = ask.get(path)
    assert answer.status_code == 200
    page = Page(answer.text)
    assert page.unclosed == []
    scripts = [attrs for tag, attrs in page.elements if tag == "script"]
    assert [set(attrs) for attrs in scripts] == [{"src", "defer"}]
    assert not {tag for tag, _ in page.elements} & {"img", "iframe", "object", "embed", "base"}
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        for name in ("src", "href", "action"):
            assert attrs.get(name, "/").startswith(("/", "#")), attrs
    assert [c for c in answer.text if not c.isprintable() and c not in "\n\t"] == []


def test_a_list_begins_with_the_best_and_its_pages_hold_every_latent_once(ask, lake):
    text, found = ask.get("/").text, []
    while True:
        found += latents(text)
        if (link := re.search(r'rel=next href="([^"]+)"', text)) is None:
            break
        text = ask.get(unescape(link[1])).text
    assert sorted(found) == list(range(12))
    value = {
        r["latent"]: r["value"]
        for r in lake.rows("scores", "scorer = 'pattern' AND metric = 'balanced_accuracy'")
        if r["value"] is not None
    }
    assert found[: len(value)] == sorted(value, key=value.__getitem__, reverse=True)
    assert "11 to 12 of 12 latents" in text
    back = ask.get(unescape(re.search(r'rel=prev href="([^"]+)"', text)[1])).text
    assert latents(back) == found[5:10]
    assert latents(ask.get("/?before=end").text) == found[-5:]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=animal", [0]),
        ("q=ANIMAL", [0]),
        ("q=%22the+word+1%22", [1, 10, 11]),
        ("q=fires+REVERSED", [HOSTILE]),
        ("q=nowhere", []),
        ("status=dead", [2]),
        ("score_low=0.979", [0]),
        ("density_low=0.2&status=dense", [3]),
    ],
)
def test_filters_leave_those_that_pass(ask, query, expected):
    assert sorted(latents(ask.get(f"/?{query}").text)) == expected


def test_a_search_finds_top_tokens(ask):
    assert 0 in latents(ask.get("/?q=cat&sort=number").text)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/?sort=bset", 404, "did you mean &#39;best&#39;"),
        ("/?p_high=abc", 400, "&#39;abc&#39; is no number"),
        ("/?hookpoint=layers.9", 404, "did you mean &#39;layers.0&#39;"),
        ("/?after=zz", 400, "is no place in a list"),
        ("/?pair=99", 400, "there are 3, numbered from 0"),
        ("/?capture=plantd", 404, "did you mean &#39;planted&#39;"),
        ("/latent?hookpoint=layers.0&latent=12", 400, "has latents 0 to 11, not 12"),
        ("/latent?hookpoint=layers.0&latent=x", 400, "is no number of a latent"),
        ("/latent?latent=1", 400, "hookpoint: the address must hold it"),
        ("/reply?key=none", 404, "unknown reply"),
        ("/sql?job=none", 404, "run it again"),
        ("/sql?saved=../macros/mix", 404, "unknown saved statement"),
        ("/static/none.css", 404, "There is no such page"),
        ("/../../etc/passwd", 404, "There is no such page"),
        ("/nothing", 404, "There is no such page"),
    ],
)
def test_what_is_not_there_is_one_clear_line(ask, path, status, said):
    answer = ask.get(path)
    assert (answer.status_code, said in answer.text) == (status, True)


def test_a_latent_shows_explanations_scores_examples_items_and_neighbours(ask, lake):
    text = ask.get(f"/latent?hookpoint={HOOKPOINT}&latent=0").text
    assert "<bdi><code> cat</code></bdi>" in text
    assert "the animal “cat”" in text
    assert [int(q) for q in re.findall(r"class=q>Quantile (\d)", text)] == [1, 2, 3, 4, 5] * 2
    assert re.search(r"<b class=h9 title=1\.4\d> cat</b>", text)
    items = [j for j in lake.rows("judgements", "latent = 0") if j["scorer"] == "detection"]
    assert f"default · detection: {len(items)} items" in text
    assert text.count('<a href="/reply?key=judge-0">') == 2 * 5
    (near,) = re.findall(r"<ul class=near>.*?</ul>", text, re.DOTALL)
    assert [int(n) for n in re.findall(r"latent=(\d+)", near)] == [HOSTILE, 1]
    assert "&lt;script&gt;" in near


def test_a_latent_shows_how_it_changed_and_explanations_side_by_side(ask, lake):
    text = ask.get(f"/latent?hookpoint={HOOKPOINT}&latent=0").text
    (density,) = (r["density"] for r in lake.rows("latents", "latent = 0"))
    history = text[text.index("id=history") :]
    assert "balanced accuracy of default · detection" in history
    moments = re.findall(r"<tr><td>(2026-01-02|2025-12-\d\d) ", history)
    assert moments[:3] == ["2026-01-02", "2025-12-30", "2025-12-26"]
    assert f"<td>{share(density)}<small>was {share(density / 2)}</small>" in history
    assert "<small>50 % kept</small>" in history
    assert "<small>was 0.50</small>" in history
    assert history.count("<figure>") == 2
    assert "fires on" in re.search(r'aria-label="(2025-12-26[^"]*)"', history)[1]
    beside = text[text.index("Explanations side by side") : text.index("id=activations")]
    rows = re.findall(r"<tr><th scope=row>(\w+)", beside.partition("</table>")[0])
    assert rows == ["Explanation", "pattern", "detection", "fuzzing"]
    assert (
        "Explanations side by side" not in ask.get(f"/latent?hookpoint={HOOKPOINT}&latent=2").text
    )


def test_a_density_that_hardly_moves_still_has_labels_that_differ():
    empty = dict.fromkeys(f.name for f in fields(Moment))
    at = datetime(2026, 1, 2, tzinfo=UTC)
    known = ((10, 0.00090), (20, 0.00091))
    moments = [Moment(**{**empty, "at": at, "n_tokens": n, "density": d}) for n, d in known]
    labels = [rung.text for rung in plots.densities_over_time(moments).rungs]
    assert len(set(labels)) == len(labels)


def test_output_tokens_that_an_explainer_kept_are_shown(ask):
    text = ask.get(f"/latent?hookpoint={HOOKPOINT}&latent=1").text
    assert "<code>&lt;b&gt;up&lt;/b&gt;</code>" in text
    other = ask.get(f"/latent?hookpoint={HOOKPOINT}&latent=0").text
    assert "The lake holds no output tokens of this latent" in other


def test_output_tokens_of_the_lake_are_shown(ask):
    text = ask.get(f"/latent?hookpoint={HOOKPOINT}&latent=2").text
    assert "<h3>By its weights alone</h3>" in text
    assert text.index("<code>&lt;i&gt;raised") < text.index("<code>&lt;i&gt;lowered")


def test_a_latent_without_explanation_says_why(ask):
    text = ask.get(f"/latent?hookpoint={HOOKPOINT}&latent={TOO_FEW}").text
    assert "too few examples: <bdi>found 3 activating windows, need 20</bdi>" in text
    assert "It never fires in the corpus" in ask.get("/latent?hookpoint=layers.0&latent=2").text


def test_a_reply_shows_what_was_asked_and_said_as_text(ask):
    text = ask.get("/reply?key=judge-0").text
    assert "&lt;script&gt;alert(9)&lt;/script&gt;" in text
    assert "tiny-judge" in text


def test_hookpoints_runs_and_comparisons_are_shown(ask):
    text = ask.get(f"/hookpoint?hookpoint={HOOKPOINT}").text
    assert "default by tiny-explainer" in text
    assert "parse failed" in text
    runs = ask.get("/runs").text
    a, b = (unescape(a) for a in re.findall(r'href="/compare\?a=([^"]+)"', runs)[:2])
    found = ask.get(f"/compare?a={a}&b={b}").text
    assert "paired on shared latents" in found
    for one in (a, b):
        chosen = re.findall(r'value="([^"]+)" selected', ask.get(f"/compare?a={one}").text)
        assert len(set(chosen)) == 2
    assert "unknown run" in ask.get("/compare?a=nobody&b=pattern").text


def test_an_explanation_made_anew_appears_with_its_history(tmp_path):
    made = scored_lake(str(tmp_path / "lake"), n_sequences=60)
    (tmp_path / "server").mkdir()
    shelves = Shelves(made, load(), tmp_path / "server")
    before = listing(shelves.get(), Ask(q="brand"), 5)
    (row,) = made.rows("explanations", "latent = 1 AND explainer = 'pattern'")
    newer = {**row, "explanation": "new", "text": "a brand new text", "settings": "s2"}
    newer["created_at"] = row["created_at"].replace(year=2027)
    made.upsert("explanations", [newer], scope={"capture": CAPTURE, "hookpoint": HOOKPOINT})
    shelves.refresh()
    after = listing(shelves.get(), Ask(q="brand"), 5)
    assert (before.n_matching, after.n_matching) == (0, 1)
    assert after.lines[0].score is None


def test_a_lake_that_was_only_captured_has_pages_too(tmp_path):
    made = planted_lake(str(tmp_path / "lake"), n_sequences=20).lake
    (tmp_path / "server").mkdir()
    with served(made, tmp_path / "server") as address:
        import httpx

        texts = {p: httpx.get(address + p) for p in ("/", "/hookpoints", "/runs", "/compare")}
        texts["latent"] = httpx.get(f"{address}/latent?hookpoint={HOOKPOINT}&latent=3")
    assert {answer.status_code for answer in texts.values()} == {200}
    assert "was not counted yet" in texts["latent"].text


def test_latents_and_captures_of_several_names_are_told_apart(tmp_path):
    made = scored_lake(str(tmp_path / "lake"), n_sequences=60)
    for table in ("captures", "hookpoints", "latents", "explanations"):
        rows = [{**r, "capture": "a & b"} for r in made.rows(table)]
        made.upsert(table, rows, scope={"capture": "a & b"})
    (tmp_path / "server").mkdir()
    with served(made, tmp_path / "server") as address:
        import httpx

        text = httpx.get(f"{address}/?capture=a+%26+b").text
        assert "<option selected>a &amp; b</option>" in text
        assert "capture=a+%26+b" in re.search(r'href="(/latent[^"]+)"', text)[1]
        other = httpx.get(f"{address}/latent?hookpoint={HOOKPOINT}&latent=1&capture=a+%26+b")
        assert "Not scored" in other.text


# -- SQL --------------------------------------------------------------------------------------


def begun(ask, sql, format="table", **values):
    given = {"sql": sql, "format": format, **{f"p_{k}": v for k, v in values.items()}}
    return ask.post("/sql", data=given)


def run(ask, sql, format="table", **values):
    answer = begun(ask, sql, format, **values)
    while "http-equiv=refresh" in answer.text:
        answer = ask.get(str(answer.url))
    return answer.text


def test_a_statement_shows_its_first_rows(ask):
    text = run(ask, "SELECT latent, '<i>' || status AS s FROM latents ORDER BY latent")
    assert "12 rows" in text
    assert '<td>0<td class="left x">&lt;i&gt;ok' in text
    assert "20 rows, the first of more" in run(ask, "SELECT * FROM range(100)")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT * FROM read_text('/etc/passwd')", "file system operations are disabled"),
        ("FROM 'https://evil.example/x.parquet'", "file system operations are disabled"),
        ("COPY (SELECT 1) TO '/tmp/x.csv'", "COPY is refused"),
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO 'x.csv'", "COPY is refused"),
        ("ATTACH '/tmp/x.db'", "ATTACH is refused"),
        ("SET memory_limit = '99GB'", "SET is refused"),
        ("INSTALL httpfs", "LOAD is refused"),
        ("CREATE TABLE x AS SELECT 1", "CREATE is refused"),
        ("SELECT 1; SELECT 2", "give one statement, not 2"),
        ("SELECT nothing FROM latents", "not found"),
    ],
)
def test_a_statement_can_only_read_the_lake(ask, lake, sql, said):
    before = {name: lake.version(name) for name in lake.tables()}
    assert said in unescape(run(ask, sql))
    assert {name: lake.version(name) for name in lake.tables()} == before


def test_a_saved_statement_with_parameters_runs(ask):
    text = ask.get("/sql?saved=report/score_values").text
    assert 'name="p_capture" value="planted"' in text
    sql = unescape(re.search(r"required>(.*?)</textarea>", text, re.DOTALL)[1])
    assert "-- column" not in sql
    found = run(ask, sql, capture=CAPTURE, metric="balanced_accuracy")
    assert '<td class="left x">detection' in found
    typed = "-- param: n BIGINT\nSELECT latent FROM latents ORDER BY latent LIMIT $n"
    assert "3 rows" in run(ask, typed, n="3")
    assert "is no BIGINT" in run(ask, typed, n="three")


ENDLESS = "SELECT count(*) FROM range(100000000000) AS a, range(100000) AS b"


def test_a_statement_that_takes_too_long_ends(lake, tmp_path):
    box = Box(lake, load(overrides=["serve.sql_seconds=1"]).serve, tmp_path)
    job = box.start(ENDLESS, {})
    assert job.done.wait(60)
    assert job.state == "stopped"
    assert job.said == "it took longer than 1 s (serve.sql_seconds)"


def test_a_stop_that_comes_before_the_statement_has_begun_still_ends_it(lake, tmp_path):
    class Deaf:
        """A connection that hears the third interrupt."""

        n_heard = 0

        def interrupt(self):
            self.n_heard += 1
            if self.n_heard == 3:
                job.done.set()

    box, job = Box(lake, load().serve, tmp_path), Job(ENDLESS, "table", {}, con=Deaf())
    box._jobs[job.id] = job
    assert box.stop(job.id).done.wait(30)


def test_only_two_statements_run_at_once_and_results_are_forgotten_in_the_end(lake, tmp_path):
    box = Box(lake, load().serve, tmp_path)
    first, second = box.start(ENDLESS, {}), box.start(ENDLESS, {})
    with pytest.raises(ConfigError, match="2 statements are running"):
        box.start("SELECT 1", {})
    for job in (first, second):
        assert box.stop(job.id).done.wait(60)
    kept = box.start("SELECT 1 AS n", {}, "csv")
    kept.done.wait(60)
    assert [path.suffix for path in tmp_path.iterdir()] == [".csv"]
    for _ in range(30):
        box.start("SELECT nothing", {}).done.wait(60)
    with pytest.raises(NotFound, match="run it again"):
        box.job(kept.id)
    assert list(tmp_path.iterdir()) == []


def test_a_statement_is_stopped(ask):
    text = begun(ask, ENDLESS).text
    assert "<meta http-equiv=refresh content=1>" in text
    job = re.search(r'name=job value="([^"]+)"', text)[1]
    assert "stopped." in ask.post("/sql/stop", data={"job": job}).text


def test_results_are_downloaded_as_csv_and_parquet(ask):
    query = "SELECT latent, status FROM latents ORDER BY latent"
    files = {}
    for kind in ("csv", "parquet"):
        link = re.search(r'class=download href="([^"]+)"', run(ask, query, kind))[1]
        answer = ask.get(unescape(link))
        assert "attachment" in answer.headers["content-disposition"]
        files[kind] = answer.content
    rows = list(csv.DictReader(io.StringIO(files["csv"].decode())))
    table = pq.read_table(io.BytesIO(files["parquet"]))
    assert [int(r["latent"]) for r in rows] == table["latent"].to_pylist() == list(range(12))


def test_nothing_is_written_to_the_lake(ask, lake):
    before = {name: lake.version(name) for name in lake.tables()}
    for path in PAGES:
        ask.get(path)
    again = Lake(lake.root)
    assert {name: again.version(name) for name in again.tables()} == before
