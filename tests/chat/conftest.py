"""A lake for each test; LiteLLM is imported once, as it takes seconds."""

import shutil

import pytest

from lakeinterp.chat.backend import import_litellm
from lakeinterp.lake import Lake
from lakeinterp.sampling import sample
from tests.chat.helpers import whole
from tests.planted import planted_lake


@pytest.fixture(scope="session", autouse=True)
def litellm():
    return import_litellm()


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def _planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "lake"
    made = planted_lake(str(folder), n_sequences=120, n_buckets=1, n_shards=1)
    sample(made.lake, whole(folder))
    return folder


@pytest.fixture
def sampled(_planted, tmp_path):
    """A lake of two planted latents, `cat` and what follows `the`, to be explained."""
    return Lake(str(shutil.copytree(_planted, tmp_path / "sampled")))
