"""Limits shared among workers: together they never exceed what the settings allow."""

import logging

import pytest

from lakeinterp import workers
from lakeinterp.chat.targets import model_of
from lakeinterp.config import ChatConfig, Deployment, RouteConfig
from lakeinterp.errors import ConfigError
from lakeinterp.explain.explainer import load_explainer, series_of
from tests.chat.helpers import whole

LIMITS = ("max_concurrency", "requests_per_minute", "tokens_per_minute")


def limited(concurrency=32, **limits):
    """Return settings with limits of one deployment, one fallback and the route."""
    deployments = (Deployment(model="openai/a", **limits), Deployment(model="openai/b"))
    route = RouteConfig(deployments=deployments, fallbacks=deployments[:1], **limits)
    return ChatConfig(explainer=route, concurrency=concurrency, workers=4)


def limits_of(chat):
    routes = (chat.explainer, *chat.explainer.deployments, *chat.explainer.fallbacks)
    return [chat.concurrency, *(getattr(one, name) for one in routes for name in LIMITS)]


@pytest.mark.parametrize("smallest", [1, 2, 3, 4, 7, 100])
@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 9])
def test_parts_of_all_workers_add_up_to_each_limit(smallest, wanted):
    chat = limited(
        concurrency=33, max_concurrency=smallest, requests_per_minute=61, tokens_per_minute=10_007
    )
    n = workers.n_sharing(chat, wanted)
    assert n == min(wanted, smallest)
    parts = [workers.share(chat, n, number) for number in range(n)]
    for whole_limit, *shares in zip(limits_of(chat), *map(limits_of, parts), strict=True):
        if whole_limit is None:
            assert set(shares) == {None}
        else:
            assert sum(shares) == whole_limit
            assert min(shares) >= 1
    common = workers.share(chat, n)
    for whole_limit, each in zip(limits_of(chat), limits_of(common), strict=True):
        assert each is None or 1 <= each <= whole_limit / n
    assert {part.workers for part in (*parts, common)} == {1}


def test_limit_that_cannot_be_shared_is_named(caplog):
    chat = limited(requests_per_minute=3)
    with caplog.at_level(logging.WARNING):
        assert workers.n_sharing(chat, 4) == 3
    assert "chat.explainer.requests_per_minute = 3 is shared by no more" in caplog.text
    with pytest.raises(ConfigError, match=r"requests_per_minute = 3 cannot be shared by 4"):
        workers.share(chat, 4)
    caplog.clear()
    assert workers.n_sharing(chat, 2) == 2
    assert caplog.text == ""


def test_keys_and_digests_do_not_depend_on_the_workers(tmp_path):
    chat = limited(requests_per_minute=8)
    part = workers.share(chat, 4, 1)
    found = []
    for one in (chat, part):
        config = whole(tmp_path, one)
        explainer = load_explainer(config.explain)
        found.append((model_of(one, "judge"), series_of(explainer, config, "sample")))
    assert found[0] == found[1]
    assert part.budget_usd == chat.budget_usd


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (-9, r"exit code -9 \(it was killed, often for want of memory\); run the same command"),
        (1, r"exit code 1 \(a fault .*what it wrote above says which"),
    ],
)
def test_end_of_a_worker_says_what_to_do(code, says):
    import re

    assert re.search(says, workers._died(code))
