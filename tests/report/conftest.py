from __future__ import annotations

import pytest

from lakeinterp.config import load
from lakeinterp.report import write_page
from tests.lakes import scored_lake


@pytest.fixture(scope="session")
def lake(tmp_path_factory):
    return scored_lake(str(tmp_path_factory.mktemp("lakes") / "scored"))


@pytest.fixture(scope="session")
def config():
    return load(overrides=["report.title=A <b>title</b> & more"])


@pytest.fixture(scope="session")
def page(lake, config, tmp_path_factory):
    path = write_page(lake, tmp_path_factory.mktemp("pages") / "report.html", config)
    return path.read_text(encoding="utf-8")
