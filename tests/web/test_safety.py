"""Strangers, other names, other sites' forms: who gets which answer."""

from __future__ import annotations

import httpx
import pytest

from lakeinterp.web.safety import POLICY, Guard, is_loopback
from tests.web.conftest import served

TOKEN = "t" * 32


async def page(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the page"})


async def answer(method="GET", path="/", headers=(), host="127.0.0.1", body=b"", **how):
    app = Guard(page, host=host, forms=("/sql",), **how)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:1") as client:
        return await client.request(method, path, headers=dict(headers), content=body)


@pytest.fixture
def anyio_backend():
    return "asyncio"


pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"])
async def test_this_machines_own_names_are_answered(name):
    assert (await answer(headers={"host": name})).status_code == 200


@pytest.mark.parametrize("name", ["evil.example", "evil.example:80", "10.0.0.1", "", "localhost.e"])
async def test_on_loopback_no_other_name_is_answered(name):
    assert (await answer(headers={"host": name})).status_code == 421


@pytest.mark.parametrize(
    ("name", "status"),
    [("10.0.0.7:80", 200), ("[fe80::1]", 200), ("box.lan", 200), ("evil.example", 421)],
)
async def test_an_open_server_answers_addresses_and_the_names_it_was_given(name, status):
    found = await answer(host="0.0.0.0", names=("Box.lan",), headers={"host": name})
    assert found.status_code == status


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "POST", "TRACE"])
async def test_nothing_but_reading_is_answered(method):
    assert (await answer(method, "/")).status_code == 405


FORM = {"origin": "http://localhost:1", "sec-fetch-site": "same-origin"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (FORM, 200),
        ({"origin": "http://localhost:1"}, 200),
        ({}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:2"}, 403),
        ({"origin": "http://localhost:1.evil.example"}, 403),
        ({**FORM, "sec-fetch-site": "same-site"}, 403),
        ({**FORM, "sec-fetch-site": "cross-site"}, 403),
    ],
)
async def test_only_forms_of_the_server_s_own_pages_are_taken(headers, status):
    found = await answer("POST", "/sql", headers=headers, body=b"sql=SELECT+1")
    assert found.status_code == status


async def test_a_form_that_is_too_long_is_refused():
    assert (await answer("POST", "/sql", headers=FORM, body=b"x" * 200_001)).status_code == 413


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, "", 401),
        ({}, "?token=wrong", 401),
        ({"cookie": "lakeinterp=wrong"}, "", 401),
        ({"cookie": "other=" + TOKEN}, "", 401),
        ({"cookie": 'lakeinterp="'}, "", 401),
        ({"cookie": "lakeinterp=" + TOKEN}, "", 200),
        ({"authorization": "Bearer " + TOKEN}, "", 200),
        ({"authorization": "Bearer é".encode()}, "", 401),
    ],
)
async def test_with_a_token_only_those_who_know_it_see_anything(headers, query, status):
    found = await answer(path="/" + query, headers=headers, token=TOKEN)
    assert (found.status_code, "the page" in found.text) == (status, status == 200)


async def test_the_token_leaves_the_address_for_a_cookie():
    found = await answer(path=f"/latent?latent=3&token={TOKEN}&hookpoint=a", token=TOKEN)
    assert found.status_code == 303
    assert found.headers["location"] == "/latent?latent=3&hookpoint=a"
    cookie = found.headers["set-cookie"]
    assert TOKEN in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


async def test_an_address_does_not_lead_to_another_site():
    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "//evil.example/",
        "headers": [(b"host", b"[::1]")], "query_string": f"token={TOKEN}".encode(),
    }  # fmt: skip
    await Guard(page, host="127.0.0.1", token=TOKEN)(scope, None, send)
    assert dict(sent[0]["headers"])[b"location"] == b"/evil.example/"


async def test_every_answer_carries_the_policy():
    for found in (await answer(), await answer("PUT"), await answer(token=TOKEN)):
        assert found.headers["content-security-policy"] == POLICY
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["cache-control"] == "no-store"
    assert "unsafe" not in POLICY
    assert "http" not in POLICY


def test_only_addresses_of_this_machine_are_loopback():
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "box.lan", ""))


def test_a_real_server_keeps_pages_from_strangers_and_lets_the_holder_in(lake, tmp_path):
    with served(lake, tmp_path, token=TOKEN) as address, httpx.Client() as client:
        assert client.get(address).status_code == 401
        assert client.get(f"{address}/static/none.css").status_code == 401
        there = client.get(f"{address}/?token={TOKEN}", follow_redirects=True)
        assert there.status_code == 200
        assert TOKEN not in str(there.url)
        assert TOKEN not in there.text
        assert client.get(f"{address}/runs").status_code == 200
