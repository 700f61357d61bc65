"""Ready token ids, chat rows and shuffled sources."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from lakeinterp.config import CorpusConfig
from lakeinterp.corpus import SequenceSource, Tokenizer
from lakeinterp.corpus.documents import documents, shuffled
from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.lake import Lake
from tests import tiny

CONTEXT = 8


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer(str(tiny.build_model(tmp_path_factory.mktemp("model"))))


def ids() -> np.ndarray:
    made = np.random.default_rng(0).integers(1, tiny.V, size=(30, CONTEXT))
    made[:, 0] = 0
    made[5:, 4] = 0
    return made


def write_npy(folder):
    np.save(folder / "ids.npy", ids().astype(np.uint16))
    return folder / "ids.npy"


def write_flat_npy(folder):
    np.save(folder / "flat.npy", np.append(ids().ravel(), [1, 2, 3]))
    return folder / "flat.npy"


def write_parquet(folder):
    column = pa.array(ids().tolist(), pa.list_(pa.int32()))
    pq.write_table(pa.table({"input_ids": column, "text": ["x"] * 30}), folder / "ids.parquet")
    return folder / "ids.parquet"


def write_delphi_cache(folder):
    cache = folder / "latents" / "layers.0"
    cache.mkdir(parents=True)
    for name in ("0_3", "4_7"):
        save_file({"tokens": ids(), "activations": np.ones(1, "f2")}, cache / f"{name}.safetensors")
    (cache / "config.json").write_text("{}")
    return folder / "latents"


def sequences(folder, source, tokenizer, **more):
    config = CorpusConfig(dataset=str(source), context_tokens=CONTEXT, **more)
    source = SequenceSource(Lake(str(folder / "lake")), config, tokenizer)
    return source, [s for chunk in source.read(0, 10**6) for s in chunk]


@pytest.mark.parametrize("write", [write_npy, write_flat_npy, write_parquet, write_delphi_cache])
def test_ready_ids_are_taken_as_they_are_and_cut_at_special_tokens(tmp_path, tokenizer, write):
    source, found = sequences(tmp_path, write(tmp_path), tokenizer)
    assert np.array_equal([s.tokens for s in found], ids())
    assert [(p.document is None, p.start) for p in found[0].spans] == [(True, 0), (False, 1)]
    cut = [(True, 0), (False, 1), (True, 4), (False, 5)]
    assert [(p.document is None, p.start) for p in found[9].spans] == cut
    assert [s for chunk in source.read(7, 12) for s in chunk] == found[7:12]


def test_ready_ids_go_on_where_a_run_stopped(tmp_path, tokenizer):
    path = write_parquet(tmp_path)
    config = CorpusConfig(dataset=str(path), context_tokens=CONTEXT)
    pieces = SequenceSource(Lake(str(tmp_path / "pieces")), config, tokenizer)
    list(pieces.read(0, 11))
    assert pieces.stored() == 11
    _, whole = sequences(tmp_path, path, tokenizer)
    assert [s for chunk in pieces.read(0, 99) for s in chunk] == whole


def test_rows_of_another_length_are_refused_with_the_setting(tmp_path, tokenizer):
    np.save(tmp_path / "wide.npy", np.zeros((3, 16), np.int64))
    with pytest.raises(ConfigError, match=r"corpus\.context_tokens: 8, but .* shape \[16\]"):
        sequences(tmp_path, tmp_path / "wide.npy", tokenizer)


def test_chat_rows_go_through_the_template(tmp_path, tokenizer):
    tokenizer._hf.chat_template = (
        "{% for m in messages %}<s>{{ m['role'] }} {{ m['content'] }}{% endfor %}"
    )
    rows = [{"messages": [{"role": "user", "content": "the cat sat"}]}] * 12
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, found = sequences(tmp_path, tmp_path / "chat.jsonl", tokenizer, chat=True)
    first = found[0].tokens
    assert first[0] == 0
    assert list(first[2:5]) == [tiny.WORDS.index(w) for w in ("the", "cat", "sat")]


def test_chat_rows_without_a_template_are_refused(tmp_path, tokenizer):
    tokenizer._hf.chat_template = None
    (tmp_path / "c.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}]}\n')
    with pytest.raises(ConfigError, match=r"corpus\.chat: .*template"):
        sequences(tmp_path, tmp_path / "c.jsonl", tokenizer, chat=True)


@pytest.mark.parametrize("n_kept", [1, 7, 1000])
def test_shuffled_rows_are_all_there_once_in_an_order_that_the_seed_decides(n_kept):
    rows = list(range(200))
    first = list(shuffled(rows, n_kept, 3))
    assert sorted(first) == rows
    assert list(shuffled(rows, n_kept, 3)) == first
    assert (first == rows) == (n_kept == 1)
    if n_kept > 1:
        assert list(shuffled(rows, n_kept, 4)) != first


def test_shuffled_source_can_be_gone_on_with(tmp_path):
    tiny.write_corpus(tmp_path / "c.jsonl", n_documents=50)
    config = CorpusConfig(dataset=str(tmp_path / "c.jsonl"), shuffle_rows=10)
    everything = list(documents(config))
    assert list(documents(config, skip=20)) == everything[20:]
    assert sorted(everything) == sorted(documents(CorpusConfig(dataset=config.dataset)))
    assert everything != list(documents(CorpusConfig(dataset=config.dataset)))


def write(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.jsonl", b"", "is empty"),
        ("empty.csv", b"", "is empty"),
        ("latin.txt", "caf\xe9\n".encode("latin-1"), "is not UTF-8"),
        ("latin.jsonl", '{"text": "caf\xe9"}\n'.encode("latin-1"), "is not UTF-8"),
        ("torn.jsonl", b'{"text": "a"}\n{"text": ', "cannot be read"),
        ("torn.txt.gz", b"\x1f\x8b\x08\x00\x00", "cannot be read"),
        ("torn.parquet", b"PAR1 and no more", "cannot be read"),
    ],
)
def test_file_that_is_not_what_its_name_says_is_named(tmp_path, name, content, said):
    source = write(tmp_path, name, content)
    with pytest.raises(ConfigError, match=rf"corpus\.dataset: .*{name} {said}") as caught:
        list(documents(CorpusConfig(dataset=str(source))))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("torn.npy", b"\x93NUMPY\x01\x00v\x00{'descr'", "is no array"),
        ("text.npy", b"hello", "is no array"),
        ("torn.parquet", b"PAR1 and no more", "is no Parquet file"),
    ],
)
def test_torn_file_of_token_ids_is_named(tmp_path, tokenizer, name, content, said):
    source = write(tmp_path, name, content)
    with pytest.raises(ConfigError, match=rf"corpus\.dataset: .*{name} {said}"):
        sequences(tmp_path, source, tokenizer)


def test_array_of_numbers_with_a_point_is_refused(tmp_path, tokenizer):
    np.save(tmp_path / "floats.npy", np.zeros((4, CONTEXT)))
    with pytest.raises(ConfigError, match=r"floats\.npy holds float64"):
        sequences(tmp_path, tmp_path / "floats.npy", tokenizer)


@pytest.mark.parametrize("name", ["./my-modl", "/no/model", "a/b/c"])
def test_path_that_leads_nowhere_is_said_so_without_asking_the_hub(name):
    with pytest.raises(NotFound, match=r"unknown model .*no such file or folder"):
        Tokenizer(name)
    with pytest.raises(NotFound, match=r"unknown dataset .*no such file or folder"):
        next(documents(CorpusConfig(dataset=name)))


@pytest.fixture
def offline(monkeypatch):
    """The hub's client, which reads the environment on import only, does not try again."""
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def test_name_the_hub_does_not_give_is_one_line(offline):
    with pytest.raises(NotFound, match=r"unknown model 'my-modl'; no such folder here, and") as one:
        Tokenizer("my-modl")
    with pytest.raises(NotFound, match=r"unknown dataset 'no/such'; no such folder here") as two:
        list(documents(CorpusConfig(dataset="no/such")))
    assert "\n" not in f"{one.value}{two.value}"


def test_model_and_device_that_are_not_there_are_said_so(offline):
    from lakeinterp.capture.model import SubjectModel
    from lakeinterp.config import CaptureConfig

    with pytest.raises(NotFound, match="unknown model 'my-modl'; no such folder here, and the hub"):
        SubjectModel(CaptureConfig(model="my-modl", device="cpu"))
    with pytest.raises(ConfigError, match=r"capture\.device: 'cuda:99', but torch sees \d+ GPUs"):
        SubjectModel(CaptureConfig(model="my-modl", device="cuda:99"))
