"""`lakeinterp serve`."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from cyclopts import Parameter, validators

from lakeinterp.commands.common import Common, console
from lakeinterp.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from starlette.types import ASGIApp

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake

_DEFAULT = Common()
_PORT = 8753
_MANY = 200_000
"""Latents that take long enough to read to say so."""


LakeArgument = Annotated[
    str | None, Parameter(help="Folder or URL of the lake, as --lake.", show_default=False)
]
HostOption = Annotated[
    str,
    Parameter(
        help="Address to listen at. Any but this machine's own lets others in, who then need "
        "the token."
    ),
]
PortOption = Annotated[
    int, Parameter(help="0 takes a free one.", validator=validators.Number(gte=0, lte=65535))
]
NameOption = Annotated[
    tuple[str, ...],
    Parameter(
        help="A further name under which browsers reach this server; may be repeated.",
        negative=(),
        consume_multiple=False,
        show_default=False,
    ),
]
TokenOption = Annotated[
    bool,
    Parameter(
        negative=(), help="Ask for a token on this machine's own address too, for shared ones."
    ),
]
OpenOption = Annotated[bool, Parameter(negative=(), help="Open the page in a browser.")]


def serve(
    lake: LakeArgument = None,
    /,
    *,
    host: HostOption = "127.0.0.1",
    port: PortOption = _PORT,
    name: NameOption = (),
    token: TokenOption = False,
    open: OpenOption = False,
    common: Common = _DEFAULT,
) -> None:
    """Serve a read-only web page over the lake until Ctrl-C.

    Latents with search, filters and paging, every explanation, score, example and reply,
    hookpoints, runs, comparisons and a box for SQL. Nothing is written to the lake and nothing is
    loaded from elsewhere.
    """
    uvicorn = _uvicorn()
    from lakeinterp.web.safety import is_loopback

    config = common.load({"lake": lake} if lake else None)
    opened = common.open(config)
    secret = secrets.token_urlsafe(24) if token or not is_loopback(host) else None
    with _listening(host, port) as sock, TemporaryDirectory(prefix="lakeinterp-") as folder:
        port = sock.getsockname()[1]
        app = _app(opened, config, Path(folder), host, port, name, secret)
        url = _address(host, port, secret)
        _say(opened, url)
        if open:
            import webbrowser

            webbrowser.open(url)
        _run(uvicorn, app, sock)


def _run(uvicorn: ModuleType, app: ASGIApp, sock: socket.socket) -> None:
    """Serve until Ctrl-C."""
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="on"
    )
    # uvicorn ends in good order and then raises what ended it.
    with suppress(KeyboardInterrupt):
        uvicorn.Server(settings).run(sockets=[sock])


def _app(
    lake: Lake,
    config: Config,
    folder: Path,
    host: str,
    port: int,
    names: tuple[str, ...],
    secret: str | None,
) -> ASGIApp:
    from lakeinterp.web import make_app

    n_latents = sum(row["n_latents"] for row in lake.rows("hookpoints"))
    if n_latents >= _MANY:
        console().print(f"reading {n_latents:,} latents …", style="dim")
    return make_app(
        lake, config, folder, host=host, names=names, token=secret, cookie=f"lakeinterp-{port}"
    )


def _say(lake: Lake, url: str) -> None:
    """Print where the page is."""
    out = console()
    out.print(f"{lake.root} is served, read-only, at", soft_wrap=True, markup=False)
    out.print(f"  {url}", soft_wrap=True, markup=False)
    out.print("Ctrl-C ends it", style="dim")


def _uvicorn() -> ModuleType:
    try:
        import starlette
        import uvicorn
    except ModuleNotFoundError as exc:
        raise MissingExtra("serve", "web", exc.name or "starlette") from exc
    del starlette
    return uvicorn


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Give a socket that listens at an address.

    Raises:
        ConfigError: the port is taken or reserved, or the address is none of this machine.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise ConfigError(f"--host {host}: no such address ({exc.strerror or exc})") from exc
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
            sock.listen(128)
        except OSError as exc:
            raise ConfigError(
                f"--port {port}: cannot listen at {host} ({exc.strerror or exc}); "
                "give another --port, 0 takes a free one"
            ) from exc
        yield sock


def _address(host: str, port: int, secret: str | None) -> str:
    """Return what a person opens; where all addresses are listened at, one that exists."""
    shown = host
    if host in ("0.0.0.0", "::", ""):
        shown = socket.gethostname()
    elif ":" in host and ipaddress.ip_address(host.partition("%")[0]).version == 6:
        shown = f"[{host}]"
    return f"http://{shown}:{port}/" + (f"?token={quote(secret)}" if secret else "")
