"""A lake for each test; LiteLLM is imported once, as it takes seconds."""

import pytest

from lakeinterp.chat.backend import import_litellm
from lakeinterp.lake import Lake


@pytest.fixture(scope="session", autouse=True)
def litellm():
    return import_litellm()


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"))
