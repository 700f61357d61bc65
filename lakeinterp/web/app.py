"""The application: addresses to pages, every one made on the server from the lake as it is."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

import lakeinterp
from lakeinterp.errors import ConfigError, LakeinterpError, NotFound
from lakeinterp.lake import queries
from lakeinterp.lake.connect import reading
from lakeinterp.lake.fit import as_records
from lakeinterp.lake.schema import TABLES
from lakeinterp.report import compare
from lakeinterp.web.box import Box, parameters, saved, shown
from lakeinterp.web.latent import served_latent
from lakeinterp.web.listing import SORTS, Ask, listing
from lakeinterp.web.safety import Guard
from lakeinterp.web.settled import settled
from lakeinterp.web.shelf import Shelves
from lakeinterp.web.templating import assets, environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.lake.queries import Query
    from lakeinterp.web.shelf import Shelf

_FORMS = ("/sql", "/sql/stop")
_PATIENCE_S = 1.0
"""How long an answer waits for a statement before it says that it is running."""
_MEDIA = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
_YEAR = "private, max-age=31536000, immutable"


def make_app(
    lake: Lake,
    config: Config,
    folder: Path,
    *,
    host: str = "127.0.0.1",
    names: tuple[str, ...] = (),
    token: str | None = None,
    cookie: str = "lakeinterp",
) -> ASGIApp:
    """Return the page over a lake as an ASGI application.

    Args:
        lake: The lake; nothing is ever written to it.
        config: `serve`, and what `report` takes.
        folder: An empty folder for what the server needs while it runs.
        host: The address it will listen at; decides which names it answers to.
        names: Further names it answers to.
        token: What people must know to see anything; None lets everybody in.
        cookie: Name of the cookie that holds the token.

    Raises:
        NotFound: the lake has no capture, or no score has the metric `score.headline`.
    """
    if not lake.store.is_local:
        lake.store.fs = settled(lake.store.fs)
    site = Site(lake, config, folder)
    site.warm()
    return Guard(
        Starlette(
            routes=site.routes(),
            exception_handlers={HTTPException: site.no_page},
            lifespan=site.lifespan,
        ),
        host=host,
        names=names,
        token=token,
        cookie=cookie,
        forms=_FORMS,
    )


class Site:
    """The pages of a lake."""

    def __init__(self, lake: Lake, config: Config, folder: Path) -> None:
        self._lake, self._config = lake, config
        self.shelves = Shelves(lake, config, folder)
        self._box = Box(lake, config.serve, folder)
        self._templates = environment()
        self._assets = {asset.address: asset for asset in assets()}

    def routes(self) -> list[Route]:
        """Return the addresses that are answered."""
        pages: dict[str, Callable[[Request], Response]] = {
            "/": self.latents,
            "/latent": self.latent,
            "/hookpoints": self.hookpoints,
            "/hookpoint": self.hookpoint,
            "/runs": self.runs,
            "/compare": self.compare,
            "/reply": self.reply,
            "/sql": self.sql,
            "/sql/file": self.file,
            "/static/{name}": self.static,
            "/favicon.ico": self.icon,
        }
        found = [Route(path, self._guarded(page), methods=["GET"]) for path, page in pages.items()]
        return [
            *found,
            Route("/sql", self.ask, methods=["POST"]),
            Route("/sql/stop", self.stop, methods=["POST"]),
        ]

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Stop statements and wait for what runs in the background when the server ends."""
        yield
        await run_in_threadpool(self._box.close)
        await run_in_threadpool(self.shelves.close)

    def warm(self) -> None:
        """Do once what the first page would wait for: read the newest capture, read templates."""
        shelf = self.shelves.get()
        listing(shelf, Ask(), self._config.serve.page_latents)
        for name in self._templates.list_templates(["html"]):
            self._templates.get_template(name)

    # -- pages --------------------------------------------------------------------------------

    def latents(self, request: Request) -> Response:
        """Show a list of latents."""
        ask = Ask.read(dict(request.query_params))
        shelf = self.shelves.get(ask.capture or None)
        found = listing(shelf, ask, self._config.serve.page_latents)
        statuses = sorted({s for h in shelf.reader.hookpoints for s, _ in h.statuses})
        return self._page(
            "latents", shelf, ask=ask, found=found, sorts=SORTS, statuses=statuses, low=shelf.low
        )

    def latent(self, request: Request) -> Response:
        """Show one latent."""
        shelf = self._shelf(request)
        hookpoint, latent = _text(request, "hookpoint"), _whole(request, "latent")
        found = served_latent(shelf, hookpoint, latent)
        n_shown = self._config.report.examples_per_section
        return self._page("latent", shelf, found=found, n_shown=n_shown, low=shelf.low)

    def hookpoints(self, request: Request) -> Response:
        """Show all hookpoints of a capture."""
        shelf = self._shelf(request)
        return self._page("hookpoints", shelf, facts=shelf.facts())

    def hookpoint(self, request: Request) -> Response:
        """Show one hookpoint: scores against nulls, failures, cost."""
        shelf, name = self._shelf(request), _text(request, "hookpoint")
        known = {h.hookpoint: h for h in shelf.reader.hookpoints}
        if name not in known:
            raise NotFound("hookpoint", name, known)
        summaries = shelf.summaries().get(name, ())
        failures = self._rows("failures", ("judgements",), capture=shelf.capture, hookpoint=name)
        rest = [group for group in shelf.unexplained() if group.hookpoint == name]
        return self._page(
            "hookpoint", shelf, hookpoint=known[name], summaries=summaries, failures=failures,
            unexplained=rest, costs=_costs(shelf, name),
        )  # fmt: skip

    def runs(self, request: Request) -> Response:
        """Show captures, runs and costs."""
        shelf = self._shelf(request)
        shelf.summaries()
        replies = self._rows("/report/status_replies", ("replies",))
        return self._page(
            "runs", shelf, facts=shelf.facts(), runs=self._runs(),
            costs=_costs(shelf), replies=replies,
        )  # fmt: skip

    def compare(self, request: Request) -> Response:
        """Show two runs beside each other."""
        shelf = self._shelf(request)
        a, b = (request.query_params.get(side, "") for side in "ab")
        runs = self._runs()
        found, refused = [], ""
        if a and b:
            try:
                found = compare.compare_all(self._lake, a, b, self._config)
                a, b = str(found[0].a), str(found[0].b)
            except ConfigError as exc:
                refused = str(exc)
        return self._page("compare", shelf, runs=runs, a=a, b=b, found=found, refused=refused)

    def reply(self, request: Request) -> Response:
        """Show one reply of a language model, as it came."""
        key = _text(request, "key")
        rows = self._rows("reply", ("replies",), key=key)
        if not rows:
            raise NotFound("reply", key, hint="the table `replies` does not hold it")
        return self._page("reply", self._shelf(request), reply=rows[0], asked=_asked(rows[0]))

    def sql(self, request: Request) -> Response:
        """Show the SQL box, and what a statement gave."""
        shelf = self._shelf(request)
        job, text = None, request.query_params.get("sql", "")
        if name := request.query_params.get("job"):
            job = self._box.job(name)
            job.done.wait(_PATIENCE_S)
            text = job.sql
        if name := request.query_params.get("saved"):
            text = shown(_saved(name))
        known = {
            "capture": shelf.capture,
            "metric": shelf.reader.metric,
            "explainer": shelf.pairs[0].explainer,
            "scorer": shelf.pairs[0].scorer,
            "n_rows": "100",
        }
        given = {**known, **(job.values if job else {})}
        return self._page(
            "sql", shelf, job=job, text=text, saved=saved().items(), limits=self._config.serve,
            tables=list(TABLES),
            parameters={n: (kind, given.get(n, "")) for n, kind in parameters(text).items()},
        )  # fmt: skip

    def file(self, request: Request) -> Response:
        """Give the file that a statement wrote."""
        job = self._box.job(_text(request, "job"))
        if job.file is None or not job.done.is_set() or job.state != "done":
            raise NotFound("file", job.id, hint="ask for CSV or Parquet and wait for its end")
        return FileResponse(
            job.file, media_type=_MEDIA[job.format], filename=f"lakeinterp.{job.format}"
        )

    def static(self, request: Request) -> Response:
        """Give a file of the server's own."""
        asset = self._assets.get(request.url.path)
        if asset is None:
            raise HTTPException(404)
        return Response(asset.text, media_type=asset.media, headers={"Cache-Control": _YEAR})

    def icon(self, _: Request) -> Response:
        """Send browsers that ask for an icon by its old name to it."""
        found = next(a for a in self._assets.values() if a.media.startswith("image/"))
        return RedirectResponse(found.address, 308)

    # -- forms --------------------------------------------------------------------------------

    async def ask(self, request: Request) -> Response:
        """Begin a statement and go where its result will be."""
        given = _form(await request.body())
        try:
            values = {n.removeprefix("p_"): v for n, v in given.items() if n.startswith("p_")}
            sql = given.get("sql", "").replace("\r\n", "\n").strip()
            if not sql:
                raise ConfigError("give a statement")
            job = self._box.start(sql, values, given.get("format", "table"))
        except LakeinterpError as exc:
            return await run_in_threadpool(self._refused, exc, given.get("capture"))
        await run_in_threadpool(job.done.wait, _PATIENCE_S)
        return RedirectResponse(_sql_address(job.id, given.get("capture")), 303)

    async def stop(self, request: Request) -> Response:
        """Stop a statement."""
        given = _form(await request.body())
        try:
            job = self._box.stop(given.get("job", ""))
        except LakeinterpError as exc:
            return await run_in_threadpool(self._refused, exc, given.get("capture"))
        await run_in_threadpool(job.done.wait, _PATIENCE_S)
        return RedirectResponse(_sql_address(job.id, given.get("capture")), 303)

    async def no_page(self, _: Request, exc: Exception) -> Response:
        """Answer an address that is none."""
        status = exc.status_code if isinstance(exc, HTTPException) else 404
        said = "There is no such page." if status == 404 else "This is not answered here."
        return await run_in_threadpool(self._refused, NotFoundPage(said), None, status)

    # -- inside -------------------------------------------------------------------------------

    def _guarded(self, page: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """Return a page that shows errors made on purpose as one line."""

        def answer(request: Request) -> Response:
            try:
                return page(request)
            except LakeinterpError as exc:
                return self._refused(exc, request.query_params.get("capture"))

        return answer

    def _refused(self, exc: Exception, capture: str | None, status: int | None = None) -> Response:
        shelf = self.shelves.known(capture)
        code = status or (404 if isinstance(exc, NotFound) else 400)
        return self._page("refused", shelf, said=str(exc), is_missing=code == 404, status=code)

    def _shelf(self, request: Request) -> Shelf:
        return self.shelves.get(request.query_params.get("capture") or None)

    def _runs(self) -> list[dict[str, Any]]:
        """Return the lake's runs, each with the words by which `compare` finds it."""
        names = [f.name for f in fields(compare.Run)]
        rows = self._rows("/report/compare_runs", ("scores", "explanations", "captures"))
        return [{**row, "words": str(compare.Run(**{n: row[n] for n in names}))} for row in rows]

    def _rows(self, name: str, tables: tuple[str, ...], **values: object) -> list[dict[str, Any]]:
        """Run a statement over the lake as it is now: of `sql/web`, after a slash of any folder."""
        query = queries.load(name.removeprefix("/") if name.startswith("/") else f"web/{name}")
        with reading(self._lake, tables, {}) as con:
            return as_records(query.table(con, **values))

    @cached_property
    def _shared(self) -> dict[str, Any]:
        by_kind = {asset.address.rpartition(".")[2]: asset for asset in self._assets.values()}
        return {
            "version": lakeinterp.__version__,
            "style": by_kind["css"].address,
            "script": by_kind["javascript"].address,
            "icon": by_kind["svg"].address,
            "title": self._config.report.title,
        }

    def _page(self, name: str, shelf: Shelf, *, status: int = 200, **values: Any) -> Response:
        captures = [row["capture"] for row in self.shelves.captures()]
        chosen = shelf.capture if len(captures) > 1 else ""

        def address(path: str, **query: object) -> str:
            """Return an address below this one, with the capture where there are several."""
            given = {k: v for k, v in {**query, "capture": chosen}.items() if v not in ("", None)}
            return f"{path}?{urlencode(given)}" if given else path

        text = self._templates.get_template(f"web/{name}.html").render(
            **self._shared, page=name, captures=captures, shelf=shelf, names=shelf.names,
            metric=shelf.reader.metric, pairs=shelf.pairs, to=address, **values,
        )  # fmt: skip
        return HTMLResponse(text, status)


class NotFoundPage(LakeinterpError):
    """An address without a page."""


def _costs(shelf: Shelf, hookpoint: str | None = None) -> list[tuple[str, str, str, Any]]:
    """Return hookpoint, explainer, scorer and cost of all replies, or those of one hookpoint."""
    return [
        (h, explainer, scorer or "", cost)
        for (h, explainer, scorer), cost in shelf.reader.costs.items()
        if hookpoint in (None, h)
    ]


def _asked(reply: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the messages that a reply answers, by their roles; none if they were not kept."""
    try:
        request = json.loads(reply["request"] or "{}")
    except ValueError:
        return []
    messages = request.get("messages") if isinstance(request, dict) else None
    if not isinstance(messages, list):
        return []
    found = [m for m in messages if isinstance(m, dict)]
    return [(str(m.get("role", "")), str(m.get("content", ""))) for m in found]


def _saved(name: str) -> Query:
    known = {query.name: query for group in saved().values() for query in group}
    if name not in known:
        raise NotFound("saved statement", name, known)
    return known[name]


def _sql_address(job: str, capture: str | None) -> str:
    given = {"job": job, **({"capture": capture} if capture else {})}
    return f"/sql?{urlencode(given)}#result"


def _form(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _text(request: Request, name: str) -> str:
    if not (found := request.query_params.get(name, "")):
        raise ConfigError(f"{name}: the address must hold it")
    return found


def _whole(request: Request, name: str) -> int:
    text = _text(request, name).strip().lstrip("#")
    if not text.isdecimal() or len(text) > 9:
        raise ConfigError(f"{name}: {text!r} is no number of a latent")
    return int(text)
