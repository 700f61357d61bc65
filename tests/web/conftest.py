from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pytest
import uvicorn

from lakeinterp.config import load
from lakeinterp.lake.schema import TABLES
from lakeinterp.web import make_app
from tests.lakes import HOSTILE_TEXT, row, scored_lake
from tests.planted import CAPTURE, HOOKPOINT

METRIC = "balanced_accuracy"


@contextmanager
def served(lake, folder, config=None, **how):
    """Give the address of a real server over a lake."""
    sock = socket.create_server(("127.0.0.1", 0))
    app = make_app(lake, config or load(), folder, **how)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        sock.close()


@pytest.fixture(scope="session")
def lake(tmp_path_factory):
    """A lake whose corpus, explanations, replies and neighbours hold hostile text."""
    made = scored_lake(str(tmp_path_factory.mktemp("lakes") / "scored"))
    key = {"capture": CAPTURE, "hookpoint": HOOKPOINT}
    near = [
        row("neighbours", **key, latent=0, method="decoder", rank=r, neighbour=n, similarity=0.9)
        for r, n in enumerate((7, 1))
    ]
    made.upsert("neighbours", near, scope=key)
    request = '{"messages": [{"role": "user", "content": "<script>alert(9)</script>"}]}'
    reply = {**made.rows("replies", "key = 'judge-0'")[0], "text": HOSTILE_TEXT, "request": request}
    made.upsert("replies", [reply], scope={})
    told = made.rows("explanations", "latent = 1 AND explainer = 'default'")
    detail = '{"logits": {"raised": ["<b>up</b>"], "lowered": ["down"]}}'
    made.upsert("explanations", [{**told[0], "detail": detail}], scope=key)
    moved = {
        side: [{"token_id": 3, "text": f"<i>{side}</i>", "logit": 1.5}]
        for side in ("raised", "lowered")
    }
    made.upsert("outputs", [row("outputs", **key, latent=2, **moved)], scope=key)
    _age(made, key)
    return made


def _age(made, key):
    """Give latent 0 a past: half the corpus with a top token more, and an earlier score."""
    (counted,) = made.rows("latents", "latent = 0")
    columns = set(TABLES["history"].columns) & counted.keys()
    now = {name: counted[name] for name in columns}
    then = {**now, "n_tokens": now["n_tokens"] // 2, "density": now["density"] / 2}
    then["top_tokens"] = [*now["top_tokens"], {"token_id": 9, "count": 1, "pmi": 0.0}]
    (score,) = made.rows("scores", f"latent = 0 AND scorer = 'detection' AND metric = '{METRIC}'")
    made_at = {n: score["created_at"] - timedelta(days=n) for n in (7, 3)}
    rows = [row("history", **{**r, "run": "r", "created_at": made_at[n]})
            for r, n in ((then, 7), (now, 3))]  # fmt: skip
    made.upsert("history", rows, scope=key)
    earlier = {**score, "settings": "s0", "value": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    made.upsert("scores", [{**earlier, "created_at": made_at[7]}], scope=key)


@pytest.fixture(scope="session")
def site(lake, tmp_path_factory):
    config = load(overrides=["serve.page_latents=5", "serve.sql_rows=20"])
    with served(lake, tmp_path_factory.mktemp("server"), config) as address:
        yield address


@pytest.fixture
def ask(site):
    """A client of the server that sends forms as its pages do."""
    headers = {"origin": site, "sec-fetch-site": "same-origin"}
    with httpx.Client(base_url=site, follow_redirects=True, headers=headers, timeout=60) as client:
        yield client
