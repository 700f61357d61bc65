"""`lakeinterp doctor`."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lakeinterp.commands.common import Common, console

if TYPE_CHECKING:
    from lakeinterp.config import ChatConfig, Config, Deployment

_DEFAULT = Common()
_PACKAGES = {
    "": ("duckdb", "pyarrow", "polars", "deltalake"),
    "capture": ("torch", "transformers", "nnsight", "datasets"),
    "llm": ("litellm",),
    "flows": ("prefect",),
    "web": ("starlette", "uvicorn"),
    "embed": ("sentence-transformers",),
}


def doctor(common: Common = _DEFAULT) -> int:
    """Show versions, devices and whether the configured routes answer."""
    from lakeinterp import __version__

    config, out = common.load(), console()
    out.print(f"lakeinterp {__version__}, Python {platform.python_version()}")
    for extra, packages in _PACKAGES.items():
        shown = ", ".join(f"{name} {_version_of(name)}" for name in packages)
        out.print(f"  {extra or 'base':8} {shown}")
    out.print(f"  devices  {_devices()}")
    out.print(f"  lake     {_lake(config)}")
    routes = _routes(config.chat)
    if not routes:
        out.print("  routes   none; explainer and judge `pattern` need none")
    answers = [_reach(deployment) for deployment in routes]
    for deployment, (_, note) in zip(routes, answers, strict=True):
        out.print(f"  route    {deployment.model}: {note}")
    return 0 if all(reached for reached, _ in answers) else 3


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> str:
    if find_spec("torch") is None:
        return f"{os.cpu_count()} CPU cores (torch is not installed)"
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join([f"{os.cpu_count()} CPU cores", *names])


def _lake(config: Config) -> str:
    from lakeinterp.lake import open_lake

    tables = open_lake(config).tables()
    return f"{config.lake}: {', '.join(tables) or 'nothing there yet'}"


def _routes(chat: ChatConfig) -> list[Deployment]:
    routes = (chat.explainer, chat.judge)
    return list(
        dict.fromkeys(d for route in routes for d in (*route.deployments, *route.fallbacks))
    )


def _reach(deployment: Deployment) -> tuple[bool, str]:
    """Return whether a deployment's address answers, and a line on it; no model is called."""
    if deployment.api_key_env and not os.environ.get(deployment.api_key_env):
        return False, f"set the environment variable {deployment.api_key_env}"
    if deployment.api_base is None:
        return True, "the provider's own address, not tried"
    from urllib.error import HTTPError, URLError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class _Stay(HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            """Follow nowhere: the key is for this address."""

    address = f"{deployment.api_base.rstrip('/')}/models"
    if not address.startswith(("http://", "https://")):
        return False, f"{deployment.api_base} is no http address"
    key = os.environ.get(deployment.api_key_env or "", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with build_opener(_Stay).open(Request(address, headers=headers), timeout=5) as answer:
            return True, f"answers ({answer.status})"
    except HTTPError as exc:
        is_ours = exc.code >= 400 and exc.code not in (401, 403)
        return is_ours, f"answers with status {exc.code}"
    except (URLError, OSError) as exc:
        return False, f"does not answer: {exc}"
