from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from lakeinterp.config import load
from lakeinterp.web import make_app
from tests.lakes import HOSTILE_TEXT, row, scored_lake
from tests.planted import CAPTURE, HOOKPOINT


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
    return made


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
