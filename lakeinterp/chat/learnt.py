"""What was found out about deployments, kept for the next processes: which features they know."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lakeinterp.chat.database import connect

if TYPE_CHECKING:
    from pathlib import Path

    from lakeinterp.config import Deployment

KEPT_S = 86_400.0
"""A server may be replaced by one that knows more: after a day it is asked again."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS features (
    model TEXT, address TEXT, feature TEXT, is_known INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (model, address, feature)
);
"""


class Learnt:
    """A SQLite file beside the journal; several processes may use it.

    Args:
        path: Made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._con = connect(path, _SCHEMA)

    def features(self, deployment: Deployment) -> dict[str, bool]:
        """Return feature to whether the deployment knows it, as far as tried within a day."""
        found = self._con.execute(
            "SELECT feature, is_known FROM features WHERE model = ? AND address = ? AND at > ?",
            (*_place(deployment), time.time() - KEPT_S),
        )
        return {feature: bool(is_known) for feature, is_known in found}

    def note(self, deployment: Deployment, feature: str, *, is_known: bool) -> None:
        """Keep whether a deployment knows a feature."""
        self._con.execute(
            "INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?)",
            (*_place(deployment), feature, is_known, time.time()),
        )

    def close(self) -> None:
        """Close the file."""
        self._con.close()


def _place(deployment: Deployment) -> tuple[str, str]:
    # An address may hold a password.
    return deployment.model, (deployment.api_base or "").rpartition("@")[2]
