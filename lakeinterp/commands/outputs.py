"""`lakeinterp outputs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from lakeinterp.commands.common import CaptureOption, Common, HookpointsOption, console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.config import Config

_DEFAULT = Common()


def outputs(
    *,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    n_tokens: Annotated[
        int, Parameter(help="Tokens kept of each kind.", validator=validators.Number(gte=1))
    ] = 10,
    common: Common = _DEFAULT,
) -> None:
    """Read off the model which tokens each latent makes likelier and less likely.

    The decoder row of every latent through the unembedding, with no text and no language model
    asked. Pages show them, and the table `outputs` holds them. `lakeinterp run` does this too.
    """
    config = common.load()
    common.open(config)
    n = run(config, capture, hookpoints, n_tokens)
    console().print(f"output tokens of {n:,} latents written" if n else "nothing left to do")


def run(
    config: Config, capture: str | None, hookpoints: Sequence[str] = (), n_tokens: int = 10
) -> int:
    """Write output tokens with a progress bar; return the latents that got them."""
    from lakeinterp import steps
    from lakeinterp.commands.progress import UnitProgress

    with UnitProgress("outputs", "latents") as bar:

        def progress(hookpoint: str, done: int, total: int) -> None:
            bar(done, total, hookpoint)

        return steps.outputs(config, capture, hookpoints, n_tokens=n_tokens, progress=progress)


def run_if_possible(config: Config, capture: str) -> None:
    """Write output tokens, or say why a model or coder has none: the other steps go on."""
    from lakeinterp.errors import ConfigError

    try:
        run(config, capture)
    except ConfigError as exc:
        console().print(f"output tokens: {exc}")
