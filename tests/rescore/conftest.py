"""A lake after its first night, made once, and a copy of it for each test."""

from __future__ import annotations

import shutil

import pytest

from lakeinterp.lake import Lake
from tests.rescore.growing import Growing


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    """The first night: everything is new."""
    grown = Growing(str(tmp_path_factory.mktemp("grown") / "lake"))
    done, n_asked = grown.rescore()
    return grown, done, n_asked


@pytest.fixture
def grown(night, tmp_path):
    made, _, _ = night
    root = str(shutil.copytree(made.root, tmp_path / "lake"))
    copy = object.__new__(Growing)
    copy.__dict__ |= made.__dict__ | {"root": root, "lake": Lake(root), "asked": []}
    return copy
