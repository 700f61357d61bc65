"""What stands before every page: who may ask for what, and what a browser may do with the answer.

A browser sends requests for any page that is open in it, so a server on this machine is reached by
strangers' pages too: by name, if a name is made to point here (DNS rebinding), and by forms. Hence
only known names are answered, only forms of these pages are taken, and no page may load or send
anything elsewhere.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""Only style, script and icon of this server; no inline script or style, no request elsewhere."""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: with it browsers hide the origin of forms, which is looked at below.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_BODY = 200_000
"""Bytes of a form."""


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """The application behind all checks; refuses in one line."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        names: Iterable[str] = (),
        token: str | None = None,
        cookie: str = "lakeinterp",
        forms: Iterable[str] = (),
    ) -> None:
        """Wrap an application.

        Args:
            app: The application.
            host: The address it listens at. On loopback only loopback's names are answered;
                otherwise any address, and this machine's names.
            names: Further names that are answered.
            token: What people must know; None lets everybody in who reaches the address.
            cookie: Name of the cookie that holds it.
            forms: Paths that take forms.
        """
        self._app, self._token, self._cookie = app, token, cookie
        self._is_open = not is_loopback(host)
        own = (host, socket.gethostname(), socket.getfqdn()) if self._is_open else ()
        self._names = {name.lower() for name in (*_LOOPBACK, *own, *names)}
        self._forms = frozenset(forms)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = self._refusal(scope) or self._app
            await answer(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        """Return why a request is not answered, None if it is."""
        headers = Headers(scope=scope)
        if not self._knows(headers.get("host", "")):
            return _line("this name is not served here; ask for the address that was printed", 421)
        if scope["method"] not in ("GET", "HEAD"):
            if scope["method"] != "POST" or scope["path"] not in self._forms:
                return _line("this page is read-only", 405, {"Allow": "GET, HEAD"})
            if not _is_own_form(headers):
                return _line("this form is not of this page", 403)
            if not headers.get("content-length", "").isdigit():
                return _line("a form without a length is not taken", 411)
            if int(headers["content-length"]) > MAX_BODY:
                return _line(f"a form may have {MAX_BODY:,} bytes", 413)
        return self._stranger(scope, headers) if self._token else None

    def _knows(self, host: str) -> bool:
        name = _name_of(host)
        if name in self._names:
            return True
        # An address cannot be made to point elsewhere, unlike a name.
        return self._is_open and _is_address(name)

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        """Return what one gets who does not, or not yet, show the token by a cookie."""
        given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = [value for name, value in given if name == "token"]
        if shown and scope["method"] in ("GET", "HEAD") and self._is_token(shown[0]):
            rest = urlencode([item for item in given if item[0] != "token"])
            # Two slashes in front would name another server.
            place = "/" + scope["path"].lstrip("/") + (f"?{rest}" if rest else "")
            answer = RedirectResponse(place, 303)
            answer.set_cookie(self._cookie, shown[0], httponly=True, samesite="lax", path="/")
            return answer
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if self._is_token(bearer) or self._is_token(_cookie(headers, self._cookie)):
            return None
        return _line("open the address that `lakeinterp serve` printed: it holds the token", 401)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), (self._token or "").encode())


def _is_own_form(headers: Headers) -> bool:
    """Whether a form was sent by a page of this server: browsers say where forms come from."""
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    scheme, _, place = headers.get("origin", "").partition("://")
    return scheme in ("http", "https") and place.lower() == headers.get("host", "").lower()


def _name_of(host: str) -> str:
    """Return the name or address of a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _line(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
