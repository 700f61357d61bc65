"""The manual is run: commands, SQL, Python and settings of every page, on the shipped model.

`my-model`, `my-coder`, `my-texts.jsonl` and `delphi-cache` stand beside the lake that the pages
write; a judge that follows rules answers in place of servers and providers; a bucket is on
loopback. Blocks of kind `console` need a terminal of their own and are not run.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import islice
from pathlib import Path

import pytest

from lakeinterp import cli, config
from lakeinterp.demo import CODER_DIR, MODEL_DIR
from tests import rule_driven
from tests.bridges import caches
from tests.wire import Wire

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    p for p in DOCS.rglob("*.md") if "reference" not in p.parts and "_build" not in p.parts
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHORTER = {
    "lakeinterp run": ["--set", "capture.n_buckets=2"],
    "lakeinterp capture": ["--set", "capture.n_buckets=2"],
    "lakeinterp demo": [
        "--set",
        "capture.n_buckets=2",
        "--set",
        "capture.n_tokens=8192",
        "--set",
        "sampling.max_latents=8",
    ],
    "lakeinterp plan": ["--set", "sampling.max_latents=4"],
}
"""What is added to a command so that its test is short."""
FEWER = {"200": "8", "50": "4", "20": "4", "20000": "4096", "24000": "6144", "10000000": "8192"}
"""Latents and tokens, here and in the test."""
ON_ITS_OWN = {"howto/s3.md", "howto/from-delphi.md", "howto/own-coder.md", "howto/devices.md"}
"""Pages that make lakes of their own; the others go on with the demo's."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


def blocks(page):
    return [(kind, body) for kind, body in BLOCK.findall(page.read_text(encoding="utf-8"))]


def commands(body):
    """Every command of a block as arguments; a line that ends in a backslash goes on."""
    lines = body.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("lakeinterp ")]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with what the pages speak of, and the demo's lake."""
    from lakeinterp.demo.corpus import documents

    desk = tmp_path_factory.mktemp("desk")
    (desk / "my-model").symlink_to(MODEL_DIR)
    (desk / "my-coder").symlink_to(CODER_DIR)
    (desk / "sql").symlink_to(ROOT / "sql")
    with (desk / "my-texts.jsonl").open("w", encoding="utf-8") as file:
        for text in islice(documents("heldout"), 60):
            file.write(json.dumps({"text": text}) + "\n")
    caches.write(desk / "delphi-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        assert run(["lakeinterp", "demo", "--lake", "demo-lake"]) == 0
    return desk


@pytest.fixture(scope="module")
def judge():
    with Wire(rule_driven.answer, key=None) as wire:
        yield wire
        wire.problems.clear()  # `doctor` asks for a list of models


@pytest.fixture(scope="module")
def bucket():
    moto = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


def run(command):
    """Run one command in this process and return its exit code."""
    more = next((a for begin, a in SHORTER.items() if " ".join(command).startswith(begin)), [])
    return cli.run([*(FEWER.get(word, word) for word in command[1:]), *more])


def asked_here(body, judge):
    """Return settings with the judge in place of the server or provider that a page names."""
    body = re.sub(r'api_base = ".*"', f'api_base = "{judge.url}"', body)
    model = f'model = "hosted_vllm/rules"\napi_base = "{judge.url}"'
    body = re.sub(r'model = "openrouter/.*"', model, body)
    body = re.sub(r"max_latents = \d+", "max_latents = 4", body)
    return body.replace(
        'api_key_env = "OPENROUTER_API_KEY"',
        "input_cost_per_token = 1e-9\noutput_cost_per_token = 1e-9",
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_what_a_page_shows_works(page, desk, judge, bucket, monkeypatch, capsys):
    name = page.relative_to(DOCS).as_posix()
    monkeypatch.chdir(desk)
    lake = desk / f"lake-of-{page.stem}"
    if name not in ON_ITS_OWN and not lake.exists():
        shutil.copytree(desk / "demo-lake", lake)
    monkeypatch.setenv("LAKEINTERP_LAKE", str(lake))
    if name == "howto/s3.md":
        _make_bucket(bucket, monkeypatch)
    for kind, body in blocks(page):
        if kind == "toml":
            shown = asked_here(body, judge)
            config.validate(tomllib.loads(body))
            if named := re.match(r"# (\S+\.toml)", body):
                (desk / named[1]).write_text(shown, encoding="utf-8")
        elif kind == "sql":
            import lakeinterp

            lakeinterp.open(str(lake)).sql(body).fetchall()
        elif kind == "bash":
            for command in commands(body):
                code = run(command)
                assert code == 0, (command, capsys.readouterr())
    if program := "".join(body for kind, body in blocks(page) if kind == "python"):
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        said = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stderr


def test_what_the_readme_asks_the_lake_is_answered(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    monkeypatch.setenv("LAKEINTERP_LAKE", "demo-lake")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = text.partition("## Ask the lake")[2].partition("\n## ")[0]
    found = BLOCK.findall(part)
    shell = " ".join("\n".join(body for kind, body in found if kind == "bash").split("\n"))
    asked = [shlex.split(f"lakeinterp {one}") for one in shell.split("lakeinterp ")[1:]]
    assert len(asked) == 5
    for command in (one for one in asked if "query.sql" not in one):
        assert run(command) == 0, (command, capsys.readouterr())
    (program,) = (body for kind, body in found if kind == "python")
    exec(compile(program, "README.md", "exec"), {})


def _make_bucket(address, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    fs = s3fs.S3FileSystem(key="key", secret="secret", endpoint_url=address)
    fs.mkdir("bucket")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_commands_in_terminals_of_their_own_parse(page):
    app = cli.make_app()
    for kind, body in blocks(page):
        for command in commands(re.sub(r"^\$ ", "", body, flags=re.MULTILINE)):
            if kind == "console":
                app.parse_args(command[1:], exit_on_error=False, print_error=False)


def test_every_question_of_the_cook_book_is_on_its_page():
    page = (DOCS / "howto" / "cookbook.md").read_text(encoding="utf-8")
    names = [p.stem for p in (ROOT / "sql" / "report" / "cookbook").glob("*.sql")]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+\.md)", page.read_text(encoding="utf-8")):
            place = (page.parent / target).resolve()
            assert place.is_file() or "reference" in place.parts, f"{page}: {target}"
