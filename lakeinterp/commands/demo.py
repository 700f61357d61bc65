"""`lakeinterp demo`."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from lakeinterp.commands.common import Common, console
from lakeinterp.commands.run import everything

if TYPE_CHECKING:
    from lakeinterp.config import Config

_DEFAULT = Common()
_LAKE = "demo-lake"


def demo(common: Common = _DEFAULT) -> int:
    """Run everything on the model, coders and corpus that ship with lakeinterp.

    A small language model trained on the Python standard library, an SAE and a transcoder on it,
    and held-out sources of this machine's Python as text. No download, no key, no GPU.
    """
    start = time.monotonic()
    config = common.load(settings(common.lake))
    code = everything(config, None)
    out = console()
    out.print(f"\nthe demo took {time.monotonic() - start:.0f} s; now try")
    for line in suggestions(config):
        out.print(f"  {line}", soft_wrap=True)
    return code


def settings(lake: str | None = None) -> dict[str, object]:
    """Return the settings of the demo."""
    from lakeinterp.demo import CODER_DIR, MODEL_DIR

    return {
        "lake": lake or _LAKE,
        "corpus.dataset": "demo",
        "corpus.bos": "always",
        "capture.name": "demo",
        "capture.model": str(MODEL_DIR),
        "capture.coder": str(CODER_DIR),
        "capture.n_tokens": 262_144,
        "capture.shard_tokens": 65_536,
        "sampling.max_latents": 200,
        "report.title": "lakeinterp demo",
    }


def suggestions(config: Config) -> list[str]:
    """Return commands to try on the demo's lake."""
    lake, program = config.lake, _program()
    query = (
        "SELECT hookpoint, latent, text FROM explanations JOIN scores USING (explanation) "
        "WHERE metric = 'balanced_accuracy' ORDER BY value DESC LIMIT 5"
    )
    return [
        f"{program} serve {lake}",
        f"{program} status --lake {lake}",
        f'{program} sql --lake {lake} "SELECT * FROM latents ORDER BY density DESC LIMIT 5"',
        f'{program} sql --lake {lake} "{query}"',
    ]


def _program() -> str:
    """Return what to type for this program: its path where no `lakeinterp` would be found."""
    typed = sys.argv[0]
    named = os.path.basename(typed) == "lakeinterp" and not shutil.which("lakeinterp")
    return os.path.relpath(typed) if named else "lakeinterp"
