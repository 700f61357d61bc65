"""`lakeinterp outputs`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter, validators

from lakeinterp.commands.common import CaptureOption, Common, HookpointsOption, console

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
    asked. The served page shows them, and the table `outputs` holds them.
    """
    from lakeinterp import steps

    config = common.load()
    common.open(config)
    n = steps.outputs(config, capture, hookpoints, n_tokens=n_tokens)
    console().print(f"output tokens of {n:,} latents written" if n else "nothing left to do")
