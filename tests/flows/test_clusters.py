"""Flows on real Dask and Ray clusters of this machine, whole and with workers lost.

The marked tests take minutes: `make test-flows`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from flows import runners
from flows.capture import parts_of
from lakeinterp.capture import capture as capture_plainly
from lakeinterp.commands.run import everything
from lakeinterp.config import Config, load
from lakeinterp.errors import ConfigError, LakeError, MissingExtra
from lakeinterp.lake import Lake
from tests import tiny
from tests.flows.test_flows import contents

pytestmark = [
    pytest.mark.flow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("default"),
]
PACKAGES = {"dask": "prefect_dask", "ray": "prefect_ray"}
ROWS = "SELECT hookpoint, latent, token, value FROM activations ORDER BY ALL"
LONG = {"capture.name": "tiny", "capture.n_tokens": 16_384, "capture.shard_tokens": 512}


@pytest.fixture(autouse=True)
def one_token(monkeypatch):
    """Ray keeps the token of its first start, its processes look in the home of now."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from prefect.testing.utilities import prefect_test_harness

    patch = pytest.MonkeyPatch()
    patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
    patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    patch.setenv("DO_NOT_TRACK", "1")
    with prefect_test_harness(server_startup_timeout=300):
        yield
    patch.undo()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["1/1"]),
        ({"capture.shards": "2/3"}, ["2/3"]),
        ({"flows.capture_parts": 2}, ["1/2", "2/2"]),
        ({"flows.runner": "dask", "flows.workers": 3}, ["1/3", "2/3", "3/3"]),
        (
            {"flows.runner": "ray", "flows.capture_parts": 2, "capture.shards": "2/3"},
            ["2/6", "5/6"],
        ),
    ],
)
def test_tasks_of_a_capture_share_its_shards(given, expected):
    assert parts_of(load(values=given)) == expected


def test_parts_of_a_part_are_its_shards_and_no_others():
    config = load(values={"flows.capture_parts": 4, "capture.shards": "3/5"})
    found = []
    for part in parts_of(config):
        i, n = (int(x) for x in part.split("/"))
        found += [shard for shard in range(200) if shard % n == i - 1]
    assert sorted(found) == [shard for shard in range(200) if shard % 5 == 2]


@pytest.mark.parametrize("runner", PACKAGES)
def test_a_runner_that_is_not_installed_is_told_with_what_to_install(runner, monkeypatch):
    for name in [name for name in sys.modules if name.endswith(f"flows.on_{runner}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(f"flows.on_{runner}", raising=False)
    monkeypatch.setitem(sys.modules, PACKAGES[runner], None)
    config = load(values={"flows.runner": runner})
    with (
        pytest.raises(MissingExtra, match=rf"flows\.runner = '{runner}' .*lakeinterp\[{runner}\]"),
        runners.cluster(config),
    ):
        pass


def test_an_address_where_no_dask_is_is_told(monkeypatch):
    from flows import on_dask

    monkeypatch.setattr(on_dask, "_ANSWERS_IN_S", 0.5)
    config = load(values={"flows.runner": "dask", "flows.cluster": "tcp://127.0.0.1:9"})
    with (
        pytest.raises(ConfigError, match=r"flows\.cluster: no Dask scheduler .*127\.0\.0\.1:9"),
        runners.cluster(config),
    ):
        pass


@pytest.mark.server
@pytest.mark.parametrize("runner", PACKAGES)
def test_pipeline_on_a_cluster_gives_the_lake_of_the_plain_functions(server, tmp_path, runner):
    from flows.pipeline import pipeline

    settings = tiny.settings(tmp_path, **{"capture.name": "tiny"})
    pipeline(load(values={**settings, "flows.runner": runner, "flows.workers": 2}))
    everything(load(values={**settings, "lake": str(tmp_path / "plain")}), None)
    assert contents(str(tmp_path / "lake")) == contents(str(tmp_path / "plain"))


@pytest.mark.server
@pytest.mark.parametrize("runner", PACKAGES)
def test_a_capture_that_loses_a_worker_finishes(server, tmp_path, runner):
    from flows.capture import capture

    settings = tiny.settings(tmp_path, **LONG, **{"flows.workers": 2, "flows.runner": runner})
    with (
        started(runner, load(values=settings)) as (config, crew),
        killing(config, crew) as killed,
    ):
        capture(config)
    assert killed
    equals_plain(settings, tmp_path)


@pytest.mark.server
def test_a_machine_lost_for_good_is_one_line_and_a_rerun_completes(server, tmp_path):
    import dask

    from flows.capture import capture

    settings = tiny.settings(tmp_path, **LONG, **{"flows.workers": 2, "flows.runner": "dask"})
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        started("dask", load(values=settings)) as (config, crew),
    ):
        with (
            killing(config, crew) as killed,
            pytest.raises(LakeError, match=r"^capture_shards: every worker that took it was lost"),
        ):
            capture(config)
        assert killed
        capture(config)
    equals_plain(settings, tmp_path)


@pytest.mark.server
def test_pipeline_on_dask_fills_a_lake_in_an_object_store(server, tmp_path, bucket, monkeypatch):
    from flows.pipeline import pipeline

    monkeypatch.chdir(tmp_path)  # the page of a lake that is not on a disk is written here
    settings = tiny.settings(tmp_path, **{"capture.name": "tiny"})
    far = {"lake": f"s3://{bucket}/lake", "flows.runner": "dask", "flows.workers": 2}
    pipeline(load(values={**settings, **far}))
    everything(load(values={**settings, "lake": str(tmp_path / "plain")}), None)
    assert contents(far["lake"]) == contents(str(tmp_path / "plain"))


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of a real S3 protocol server on loopback, which the environment leads to."""
    import s3fs
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    s3fs.S3FileSystem(endpoint_url=f"http://{host}:{port}", skip_instance_cache=True).mkdir(
        "bucket"
    )
    yield "bucket"
    running.stop()


@contextmanager
def started(
    runner: str, config: Config
) -> Iterator[tuple[Config, Callable[[], list[psutil.Process]]]]:
    """Give settings with a running cluster, and what finds the processes of its tasks."""

    def crew() -> list[psutil.Process]:
        children = psutil.Process().children(recursive=True)
        if runner == "dask":
            return [p for p in children if any("spawn_main" in part for part in line(p))]
        return [p for p in children if line(p)[:1] == ["ray::capture_shards"]]

    def line(process: psutil.Process) -> list[str]:
        try:
            return process.cmdline()
        except psutil.NoSuchProcess:
            return []

    with runners.cluster(config) as found:
        yield found, crew


@contextmanager
def killing(config: Config, crew: Callable[[], list[psutil.Process]]) -> Iterator[list[int]]:
    """Kill one worker as soon as a shard is committed; give its number."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        lake = Lake(config.lake)
        while not over.is_set():
            if lake.version("activations") >= 2 and (found := crew()):
                found[0].kill()
                killed.append(found[0].pid)
                return
            time.sleep(0.1)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def equals_plain(settings: dict[str, object], folder) -> None:
    """Compare the lake's activations with those of one plain process."""
    plain = Lake(str(folder / "plain"))
    capture_plainly(plain, load(values={**settings, "lake": plain.root}))
    assert Lake(str(settings["lake"])).sql(ROWS).fetchall() == plain.sql(ROWS).fetchall()
