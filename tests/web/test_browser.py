"""The served pages in a real browser: nothing foreign runs, keys work, axe finds no fault."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.lakes import HOSTILE
from tests.planted import HOOKPOINT

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the path"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PAGES = {
    "latents": "/?q=&sort=best&status=ok",
    "latent": f"/latent?hookpoint={HOOKPOINT}&latent=0",
    "hostile": f"/latent?hookpoint={HOOKPOINT}&latent={HOSTILE}",
    "hookpoints": "/hookpoints",
    "hookpoint": f"/hookpoint?hookpoint={HOOKPOINT}",
    "runs": "/runs",
    "compare": "/compare?a=pattern&b=fuzzing",
    "reply": "/reply?key=judge-0",
    "sql": "/sql?saved=report/latents",
    "missing": "/latent?hookpoint=nowhere&latent=1",
}
NOT_FOUND = "the server responded with a status of 404"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        # In a container Chromium's own sandbox needs rights that are rarely given.
        yield p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def axe():
    """The text of axe-core, from the installed package."""
    package = pytest.importorskip("axe_core_python", reason="needs axe-core-python (extra dev)")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def visit(browser, site):
    """Open a page in a fresh context; every request, error and dialog of it is kept."""
    contexts = []

    def open_page(path="/", **context):
        made = browser.new_context(**context)
        contexts.append(made)
        page = made.new_page()
        page.seen, page.said = [], []
        page.on("request", lambda request: page.seen.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: page.said.append("dialog") or dialog.dismiss())
        page.goto(site + path)
        return page

    yield open_page
    for context in contexts:
        context.close()


def opened(page):
    for summary in page.locator("summary").all():
        if summary.is_visible():
            summary.click()
    return page


@pytest.mark.parametrize("name", PAGES)
def test_no_foreign_script_runs_and_a_phone_need_not_scroll_sideways(visit, site, name):
    page = opened(visit(PAGES[name], viewport={"width": 360, "height": 740}))
    assert {url for url in page.seen if not url.startswith(f"{site}/")} == set()
    assert [text for text in page.said if NOT_FOUND not in text] == []
    width, shown = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= shown


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_fault_in_light_and_no_lack_of_contrast_in_dark(visit, axe, name):
    # The policy of the pages is tested above; axe itself has to get past it.
    page = opened(visit(PAGES[name], bypass_csp=True))
    page.evaluate(axe)
    for scheme, only in (("light", ""), ("dark", "runOnly: ['color-contrast'],")):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate(f"axe.run(document, {{{only} resultTypes: ['violations']}})")
        faults = [(v["id"], [n["html"][:99] for n in v["nodes"][:3]]) for v in found["violations"]]
        assert faults == [], scheme


def test_dark_and_light_differ(visit):
    grounds = [
        visit("/", color_scheme=s).evaluate("getComputedStyle(document.body).backgroundColor")
        for s in ("light", "dark")
    ]
    assert grounds == ["rgb(255, 255, 255)", "rgb(19, 22, 25)"]


def test_a_list_is_searched_and_a_latent_opened_with_keys_alone(visit):
    page = visit("/")
    page.keyboard.press("/")
    page.keyboard.type("animal")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=animal&**")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == (
        f"Latent 0 of {HOOKPOINT}"
    )
    page.keyboard.press("Enter")
    page.wait_for_url("**/latent?**")
    assert "Latent 0" in page.title() or "latent 0" in page.title()
    page.keyboard.press("n")
    page.wait_for_url("**latent=1")


def test_pages_of_a_list_are_turned_with_keys(visit):
    page = visit("/")
    page.keyboard.press("n")
    page.wait_for_url("**after=**")
    assert "6 to 10 of 12" in page.locator("[role=status]").inner_text()
    page.keyboard.press("p")
    page.wait_for_url("**before=**")
    assert "1 to 5 of 12" in page.locator("[role=status]").inner_text()


def test_the_first_stop_of_the_tab_key_skips_to_the_content(visit):
    page = visit("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_statement_runs_from_the_keyboard_and_its_result_is_shown(visit):
    page = visit("/sql")
    page.locator("textarea").fill("SELECT count(*) AS n FROM latents")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/sql?job=**")
    assert page.locator("table.grid td").inner_text() == "12"


def test_a_long_statement_is_stopped_with_a_button(visit):
    page = visit("/sql")
    page.locator("textarea").fill("SELECT count(*) FROM range(100000000000) AS a, range(9999) AS b")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector("[role=alert]")
    assert "Ended after" in page.locator("[role=alert]").inner_text()


def test_everything_works_without_scripts(visit):
    page = visit("/", java_script_enabled=False)
    page.get_by_label("Search explanations").fill("animal")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="Latent 0 of").click()
    assert page.locator("h1").inner_text().startswith("Latent 0")
    page.get_by_role("link", name="SQL").click()
    page.locator("textarea").fill("SELECT 41 + 1 AS n")
    page.get_by_role("button", name="Run").click()
    assert page.locator("table.grid td").inner_text() == "42"


def test_a_file_is_downloaded(visit):
    page = visit("/sql")
    page.locator("textarea").fill("SELECT latent FROM latents ORDER BY latent")
    page.get_by_role("button", name="CSV").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download 12 rows as CSV").click()
    assert Path(download.value.path()).read_text(encoding="utf-8").splitlines()[1] == "0"
