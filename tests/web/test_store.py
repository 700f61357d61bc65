"""A lake in a bucket is served as one in a folder is, and nothing else of the bucket."""

from __future__ import annotations

import logging
import re
from collections import Counter
from html import unescape

import httpx
import pytest

from lakeinterp.lake import Lake
from tests.planted import HOOKPOINT
from tests.web.conftest import served
from tests.web.test_pages import run

s3fs = pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


@pytest.fixture
def bucket(lake, monkeypatch):
    """A bucket behind an S3 server on loopback: a copy of the lake and somebody else's file."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    address = f"http://{host}:{port}"
    named = {"ENDPOINT_URL": address, "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s"}
    for name, value in named.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    fs = s3fs.S3FileSystem(key="k", secret="s", endpoint_url=address)
    fs.mkdir("bucket")
    fs.put(lake.root, "bucket/lake", recursive=True)
    fs.pipe("bucket/other/secret.txt", b"secret")
    yield "s3://bucket"
    running.stop()


@pytest.fixture
def asked(monkeypatch):
    """How often each object was asked for its size and age."""
    counted, info = Counter(), s3fs.S3FileSystem._info

    async def counting(self, path, *args, **kwargs):
        counted[path] += 1
        return await info(self, path, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "_info", counting)
    return counted


def test_a_lake_in_a_bucket_is_served_and_nothing_beside_it(bucket, asked, tmp_path):
    with served(Lake(f"{bucket}/lake"), tmp_path) as address:
        headers = {"origin": address, "sec-fetch-site": "same-origin"}
        with httpx.Client(
            base_url=address, follow_redirects=True, headers=headers, timeout=60
        ) as ask:
            assert "1 to 1 of 1 latents" in ask.get("/?q=animal").text
            for _ in range(2):
                assert "<b class=h9" in ask.get(f"/latent?hookpoint={HOOKPOINT}&latent=0").text
            assert "parse failed" in ask.get(f"/hookpoint?hookpoint={HOOKPOINT}").text
            link = re.search(r'class=download href="([^"]+)"', run(ask, "FROM latents", "csv"))[1]
            assert ask.get(unescape(link)).text.count("\n") == 13
            said = run(ask, f"SELECT content FROM read_text('{bucket}/other/secret.txt')")
            assert "file system operations are disabled" in said
            said = run(ask, f"SELECT content FROM read_text('{bucket}/lake/../other/secret.txt')")
            assert "0 rows" in said  # a name that no object has
    # Once for size and age each; threads that ask at one time may each be answered.
    assert 0 < max(n for path, n in asked.items() if path.endswith(".parquet")) < 6
