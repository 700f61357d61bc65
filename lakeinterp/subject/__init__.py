"""The subject room: the captured model and its coders, opened again for explainers and scorers."""

from __future__ import annotations

import sys


def close() -> None:
    """Let go of the models that this process keeps open; loads nothing to do so."""
    opening = sys.modules.get("lakeinterp.subject.opening")
    if opening is not None:
        opening.close()
