"""Several workers on one capture: by device, by hand in parts, one lost, one failing, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lakeinterp.capture import Captured, capture, devices, messages
from lakeinterp.config import CaptureConfig, load
from lakeinterp.corpus import SequenceSource, Tokenizer
from lakeinterp.corpus import sequences as stored_sequences
from lakeinterp.errors import ConfigError, LakeError, NonFinite, NotFound
from lakeinterp.lake import Lake
from tests import tiny

ALL_ROWS = "SELECT hookpoint, latent, token, value FROM activations ORDER BY ALL"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    more = {"capture.shard_tokens": 512, "capture.batch_sequences": 2}
    return tiny.settings(tmp_path_factory.mktemp("tiny")) | more


@pytest.fixture(scope="module")
def truth(built, tmp_path_factory):
    """The rows of one worker."""
    lake = tmp_path_factory.mktemp("truth")
    run(built, lake)
    return rows(lake)


def run(built, lake: Path, progress=None, **more) -> Captured:
    config = load(values={**built, "lake": str(lake), **more})
    return capture(Lake(config.lake), config, progress=progress)


def rows(lake: Path):
    return Lake(str(lake)).sql(ALL_ROWS).fetchall()


def children_of(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def workers_of(pid: int) -> list[int]:
    name = b"lakeinterp.capture.worker"
    return [p for p in children_of(pid) if name in Path(f"/proc/{p}/cmdline").read_bytes()]


class Killer:
    """Kills a worker once the first shard is committed."""

    def __init__(self):
        self.n_tokens, self.total, self.killed = 0, 0, None

    def __call__(self, *, tokens=0, total=0, rows=0, n_bytes=0):
        self.n_tokens, self.total = self.n_tokens + tokens, self.total + total
        if rows and self.killed is None:
            self.killed = workers_of(os.getpid())[0]
            os.kill(self.killed, signal.SIGKILL)


@pytest.mark.slow
def test_shards_of_a_killed_worker_are_done_by_the_others(built, truth, tmp_path):
    killer = Killer()
    done = run(built, tmp_path, killer, **{"capture.devices": ["cpu:2"]})
    assert rows(tmp_path) == truth
    assert [text.partition(" (")[2] for text in done.lost] == [
        "SIGKILL, perhaps for want of memory)"
    ]
    # A shard that was committed and not told of before the kill is there, and nobody counts it.
    assert done.n_shards in (15, 16)
    assert done.n_rows <= len(truth)
    assert killer.total == 8192
    assert killer.n_tokens == done.n_tokens >= 8192
    assert workers_of(os.getpid()) == []
    assert run(built, tmp_path).n_skipped == 16


@pytest.mark.slow
def test_what_stops_a_worker_stops_the_command_as_itself(built, tmp_path):
    coder = tiny.build_coder(tmp_path / "coder")
    weights = load_file(coder / "h.0" / "sae.safetensors")
    weights["encoder.weight"][0, tiny.CAT] = 1e30
    weights["W_dec"][0] = 0
    save_file(weights, coder / "h.0" / "sae.safetensors")
    broken = {"capture.coder": str(coder), "capture.value_dtype": "float16"}
    with pytest.raises(
        NonFinite, match=r"h\.0: activation 1e\+30 of latent 0 at sequence \d+, pos"
    ):
        run(built, tmp_path / "lake", **broken, **{"capture.devices": "cpu,cpu"})
    assert workers_of(os.getpid()) == []
    assert rows(tmp_path / "lake") == []


@pytest.mark.slow
def test_interrupt_ends_every_worker_and_is_one_line(built, tmp_path):
    settings = [f"{k}={json.dumps(v)}" for k, v in built.items() if k != "lake"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lakeinterp", "capture", "--lake", str(tmp_path), "--devices",
         "cpu:2"] + [part for text in settings for part in ("--set", text)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(found := workers_of(process.pid)) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "error: interrupted; the same command continues where this one stopped\n"
    while any(Path(f"/proc/{pid}").exists() for pid in found):  # till the system has reaped them
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_error_of_a_worker_is_the_same_error_here():
    for error in (NotFound("model", "a", ["ab"]), ConfigError("x: y"), LakeError("z")):
        again = messages.raised(messages.failure(error), "cpu")
        assert (type(again), str(again)) == (type(error), str(error))
    again = messages.raised(messages.failure(RuntimeError("odd")), "cuda:1")
    assert type(again) is LakeError
    assert str(again).startswith("worker cuda:1: RuntimeError: odd; what is committed stays")


# -- parts ------------------------------------------------------------------------------------


def test_parts_done_by_hand_make_the_whole_in_any_order(built, truth, tmp_path, monkeypatch):
    monkeypatch.setattr("lakeinterp.capture.run.PATIENCE_S", 0.2)
    done = [run(built, tmp_path, **{"capture.shards": part}) for part in ("3/3", "1/3", "2/3")]
    assert [d.n_shards for d in done] == [5, 6, 5]
    assert [d.n_left for d in done] == [11, 5, 0]
    assert rows(tmp_path) == truth
    assert run(built, tmp_path).n_skipped == 16


@pytest.mark.parametrize("wrong", ["0/2", "3/2", "2", "1/0", "a/b", "1/2/3"])
def test_part_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"capture\.shards: "):
        load(values={"capture.shards": wrong})


def test_part_at_the_end_of_a_short_corpus_leaves_nothing(built, tmp_path, monkeypatch):
    monkeypatch.setattr("lakeinterp.capture.run.PATIENCE_S", 0.2)
    much = {"capture.n_tokens": 10**5, "capture.shard_tokens": 4096, "capture.batch_sequences": 64}
    run(built, tmp_path / "whole", **much)
    for part in ("1/2", "2/2"):
        more = {**much, "capture.shards": part}
        done = run(built, tmp_path / "parts", **more)
    assert done.n_left == 0
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


class Counted(Tokenizer):
    """A tokenizer that counts the texts it is given."""

    n_texts = 0

    def encode(self, texts):
        self.n_texts += len(texts)
        return super().encode(texts)


def test_text_is_tokenized_by_one_of_those_that_wait_for_each_other(built, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_sequences, "CHUNK", 16)
    config = load(values=built)
    alone, maker, waiter = (Counted(config.capture.model) for _ in range(3))
    apart = SequenceSource(Lake(str(tmp_path / "apart")), config.corpus, alone)
    expected = [s for chunk in apart.read(0, 96) for s in chunk]
    sources = [
        SequenceSource(Lake(str(tmp_path / "both")), config.corpus, t) for t in (maker, waiter)
    ]
    found = []

    def wait() -> None:
        ranges = [(16, 40), (40, 48), (64, 96)]
        found.extend(s for part in sources[1].read_ranges(ranges, patience_s=20) for s in part)

    thread = threading.Thread(target=wait)
    thread.start()
    grown = list(sources[0].grow(96, 0.0, threading.Event()))
    thread.join()
    assert grown == [0, 16, 32, 48, 64, 80, 96]
    assert found == [*expected[16:48], *expected[64:]]
    assert (maker.n_texts, waiter.n_texts) == (alone.n_texts, 0)


def test_maker_that_is_overtaken_goes_on_from_where_the_lake_ends(built, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_sequences, "CHUNK", 16)
    config = load(values=built)
    lake, tokenizer = Lake(str(tmp_path)), Counted(config.capture.model)
    source, other = (
        SequenceSource(lake, config.corpus, t) for t in (tokenizer, Counted(config.capture.model))
    )
    growing = source.grow(96, 0.0, threading.Event())
    assert [next(growing), next(growing)] == [0, 16]
    assert list(other.grow(96, 0.0, threading.Event()))[-1] == 96
    before = tokenizer.n_texts
    assert next(growing) == 96
    assert tokenizer.n_texts == before
    assert source.stored() == 96


# -- devices ----------------------------------------------------------------------------------


def test_devices_are_written_short_and_expanded():
    settings = CaptureConfig(devices="cpu:2, cpu")
    assert settings.devices == ("cpu:2", "cpu")
    assert devices.devices_of(settings) == ["cpu"] * 3
    assert devices.devices_of(CaptureConfig(device="cpu")) == ["cpu"]
    assert devices.threads_each(["cpu"] * 1000) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs here")
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("cuda", "'cuda', but torch sees no GPU here"),
        ("cpu,cuda:1", "'cuda:1', but torch sees 0 GPUs here"),
        ("cpu,tpuu", "'tpuu' is no device of torch"),
    ],
)
def test_devices_that_are_not_there_are_refused(given, why):
    with pytest.raises(ConfigError, match=rf"^capture\.devices: {why}"):
        devices.devices_of(CaptureConfig(devices=given))


def test_one_model_over_all_devices_and_one_on_each_contradict_each_other():
    with pytest.raises(ConfigError, match=r"capture\.device_map spreads one model over all"):
        devices.devices_of(CaptureConfig(devices="cpu:2", device_map="auto"))
