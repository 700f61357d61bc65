"""A lake in a bucket, behind a real S3 protocol server on loopback."""

from __future__ import annotations

import json
import logging
import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lakeinterp import cli, config
from lakeinterp.errors import ConfigError, MissingExtra, QueryError, StorageError
from lakeinterp.lake import Lake, compaction, remote, upkeep
from lakeinterp.lake.activations import write_activations
from tests import planted as plants
from tests.planted import CAPTURE, HOOKPOINT, planted_lake

pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

ROOT = "s3://bucket/some path/lake"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hidden-secret"}
ALL_ROWS = "SELECT hookpoint, bucket, latent, token, value FROM activations ORDER BY ALL"


@pytest.fixture(scope="module")
def server():
    """Address of a server; it keeps its objects in memory."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def options(server):
    """Storage options of an empty bucket."""
    import s3fs

    fs = s3fs.S3FileSystem(
        key="key", secret="s", endpoint_url=server, use_listings_cache=False,
        skip_instance_cache=True,
    )  # fmt: skip
    if fs.exists("bucket"):
        fs.rm("bucket", recursive=True)
    fs.mkdir("bucket")
    return {"AWS_ENDPOINT_URL": server, **KEYS}


@pytest.fixture
def environment(options, monkeypatch):
    """The same as environment variables."""
    for name, value in options.items():
        monkeypatch.setenv(name, value)
    return options


@pytest.fixture
def planted(environment):
    return planted_lake(ROOT, n_sequences=30, n_shards=4)


def rows(lake: Lake):
    return lake.sql(ALL_ROWS).fetchall()


def publish(lake: Lake, shard: int) -> bool:
    files = write_activations(
        lake.store, capture=CAPTURE, hookpoint=HOOKPOINT, latents_per_bucket=4,
        latents=np.zeros(2, np.int32), tokens=np.array([shard * 2, shard * 2 + 1], np.int64),
        values=np.ones(2, np.float32), name=f"{shard}",
    )  # fmt: skip
    return lake.publish("activations", files, app=f"capture/{CAPTURE}/{shard:06d}", version=1)


def test_rows_come_back_as_they_were_written(planted):
    found = planted.lake.sql("SELECT latent, token, value FROM activations").fetchnumpy()
    dense = np.zeros_like(planted.dense)
    dense[found["token"], found["latent"]] = found["value"]
    assert np.array_equal(dense, planted.dense)
    assert planted.lake.scan("sequences").collect().height == 30
    assert planted.lake.capture()["capture"] == CAPTURE


@pytest.mark.parametrize("name", ["a b/c", "50%20 ä=x+&"])
def test_names_that_urls_write_otherwise_are_found(environment, monkeypatch, name):
    monkeypatch.setattr(plants, "CAPTURE", name)
    lake = planted_lake(ROOT, n_sequences=4).lake
    before = rows(lake)
    assert before
    assert lake.sql("SELECT DISTINCT capture FROM activations").fetchall() == [(name,)]
    compaction.compact(lake)
    assert rows(lake) == before
    upkeep.forget(lake, name)
    assert upkeep.captures(lake) == []


def test_options_given_work_as_the_environment_does(options):
    lake = Lake(ROOT, storage_options=options)
    assert publish(lake, 0)
    assert len(rows(Lake(ROOT, storage_options=options))) == 2


def test_commit_is_made_once_and_continues_after_a_kill(environment):
    assert publish(Lake(ROOT), 0)
    assert not publish(Lake(ROOT), 0)
    write_activations(
        Lake(ROOT).store, capture=CAPTURE, hookpoint=HOOKPOINT, latents_per_bucket=4,
        latents=np.zeros(1, np.int32), tokens=np.array([9], np.int64),
        values=np.ones(1, np.float32), name="1",
    )  # fmt: skip
    assert len(rows(Lake(ROOT))) == 2
    assert publish(Lake(ROOT), 1)
    assert [row[3] for row in rows(Lake(ROOT))] == [0, 1, 2, 3]


def _write_all(n_shards: int) -> None:
    lake = Lake(ROOT)
    for shard in range(n_shards):
        publish(lake, shard)


def test_two_writers_of_the_same_shards_write_them_once(environment):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_all, args=(6,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert [row[3] for row in rows(Lake(ROOT))] == list(range(12))


def test_compaction_and_vacuum_keep_the_rows(planted):
    lake, before = planted.lake, rows(planted.lake)
    assert len(lake.files("activations")) == 12
    compaction.compact(lake)
    assert len(lake.files("activations")) == 3
    assert rows(lake) == before
    assert upkeep.vacuum(lake).files == []
    assert len(upkeep.vacuum(lake, retention_hours=0).files) == 12
    assert len(lake.store.fs.glob(lake.store.path("activations", "**", "*.parquet"))) == 3
    assert rows(lake) == before


@pytest.mark.slow
def test_capture_is_resumed_sampled_and_compacted_in_a_bucket(environment, tmp_path, capsys):
    from tests import tiny

    settings = tiny.settings(tmp_path) | {"capture.n_tokens": 4096, "sampling.max_latents": 2}
    given = [f"{k}={json.dumps(v)}" for k, v in settings.items() if k != "lake"]
    options = [part for text in given for part in ("--set", text)]
    half = [*options, "--set", "capture.n_tokens=2048"]
    assert cli.run(["capture", "--lake", ROOT, *half]) == 0
    assert cli.run(["capture", "--lake", ROOT, *options]) == 0
    assert cli.run(["capture", "--lake", str(tmp_path / "local"), *options]) == 0
    assert rows(Lake(ROOT)) == rows(Lake(str(tmp_path / "local")))
    assert cli.run(["capture", "--lake", ROOT, *options]) == 0
    assert "captured nothing new" in capsys.readouterr().out
    assert cli.run(["compact", "--lake", ROOT]) == 0
    for lake in (ROOT, str(tmp_path / "local")):
        assert cli.run(["sample", "--lake", lake, *options]) == 0
    assert rows(Lake(ROOT)) == rows(Lake(str(tmp_path / "local")))
    assert Lake(ROOT).rows("examples") == Lake(str(tmp_path / "local")).rows("examples")


def test_only_the_files_that_can_hold_a_latent_are_read(planted):
    lake = planted.lake
    everything, some = lake.files("activations"), lake.files("activations", "bucket = 1")
    assert 0 < len(some) < len(everything)
    with lake.connect(activations="bucket = 1") as con:
        found = con.execute("SELECT DISTINCT bucket FROM activations").fetchall()
    assert found == [(1,)]


@pytest.mark.parametrize(
    "query",
    ["SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM read_text('s3://bucket/other.txt')"],
)
def test_sql_reads_nothing_but_the_lake(planted, query):
    planted.lake.store.fs.pipe_file("bucket/other.txt", b"not of the lake")
    with pytest.raises(QueryError, match="Permission"):
        planted.lake.sql(query).fetchall()


def test_commands_take_the_options_and_never_show_them(options, capsys):
    lake = Lake(ROOT, storage_options=options)
    publish(lake, 0)
    given = [part for k, v in options.items() for part in ("--storage-option", f"{k}={v}")]
    query = "SELECT count(*) AS n FROM activations"
    assert cli.run(["sql", query, "--lake", ROOT, *given, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"n": 2}]
    assert cli.run(["config", "--lake", ROOT, *given]) == 0
    out = capsys.readouterr().out
    assert "hidden-secret" not in out
    assert "# storage_options =" in out
    wrong = [*given, "--storage-option", "AWS_ENDPOINT_URL=http://127.0.0.1:9"]
    assert cli.run(["status", "--lake", ROOT, *wrong]) == 2
    err = capsys.readouterr().err
    assert "hidden-secret" not in err
    assert "the object store does not answer; check the network and AWS_ENDPOINT_URL" in err


def test_configuration_that_is_stored_or_shown_holds_no_option():
    loaded = config.load(overrides=["storage_options.AWS_SECRET_ACCESS_KEY=hidden-secret"])
    assert loaded.store_options() == {"AWS_SECRET_ACCESS_KEY": "hidden-secret"}
    assert "hidden" not in repr(loaded) + loaded.model_dump_json() + str(loaded.storage_options)
    assert loaded.digest() == config.load().digest()


def test_options_are_written_as_toml_writes_them(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('[storage_options]\nAWS_ALLOW_HTTP = true\naws_region = "eu"\n')
    assert config.load(file).store_options() == {"AWS_ALLOW_HTTP": "true", "aws_region": "eu"}


def test_missing_bucket_and_silent_server_are_one_line(options):
    with pytest.raises(StorageError, match="no such bucket; create it"):
        publish(Lake("s3://nowhere/lake", storage_options=options), 0)
    dead = {**options, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    with pytest.raises(StorageError, match=r"does not answer; check the network"):
        Lake(ROOT, storage_options=dead).tables()


@pytest.mark.parametrize("root", ["ftp://x/y", "sb3://bucket/lake"])
def test_unknown_scheme_is_refused(root):
    with pytest.raises(ConfigError, match=re.escape(f"{root.split(':')[0]}:// is none of")):
        Lake(root)


def test_missing_package_names_the_extra():
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from lakeinterp.cli import run; sys.exit(run(['status', '--lake', 's3://b/lake']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 2
    assert "s3://b/lake needs s3fs, which is not installed: pip install 'lakeinterp[s3]'" in (
        done.stderr
    )
    assert MissingExtra.__mro__[1] is ConfigError


@pytest.mark.parametrize(
    ("given", "delta", "fsspec"),
    [
        ({}, {}, {}),
        (
            {"AWS_ENDPOINT_URL": "http://h:1", "AWS_REGION": "r"},
            {"aws_endpoint_url": "http://h:1", "aws_region": "r", "aws_allow_http": "true"},
            {"endpoint_url": "http://h:1", "client_kwargs": {"region_name": "r"},
             "config_kwargs": {"s3": {"addressing_style": "path"}}},
        ),
        (
            {"access_key_id": "a", "secret_access_key": "b", "AWS_SESSION_TOKEN": "c"},
            {"aws_access_key_id": "a", "aws_secret_access_key": "b", "aws_session_token": "c"},
            {"key": "a", "secret": "b", "token": "c"},
        ),
        ({"aws_skip_signature": "true"}, {"aws_skip_signature": "true"}, {"anon": True}),
        ({"timeout": "5s"}, {"timeout": "5s"}, {}),
    ],
)  # fmt: skip
def test_one_set_of_options_serves_both_clients(given, delta, fsspec):
    assert remote.delta_options("s3://b/x", given) == delta
    found = remote.fsspec_options("s3://b/x", given)
    assert found.pop("use_listings_cache") is False
    assert {k: v for k, v in found.items() if not k.startswith("default_")} == fsspec


def test_option_given_beats_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "from-environment")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-environment")
    found = remote.delta_options("s3://b/x", {"region": "given"})
    assert found == {"aws_region": "given", "aws_access_key_id": "from-environment"}
