"""Packing, spans and sources; what is stored is what is made, wherever a run stopped."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp.config import CorpusConfig
from lakeinterp.corpus import SequenceSource, Tokenizer
from lakeinterp.corpus.documents import document_id, documents, identity
from lakeinterp.corpus.pack import pack
from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.lake import Lake
from tests.tiny import WORDS, build_model, write_corpus

BOS, END = 900, 901


def letters(texts: list[str]) -> list[list[int]]:
    return [[ord(c) for c in text] for text in texts]


def slow_pack(texts, context, bos, separator):
    """Return (tokens, document of each token) of every full sequence."""
    stream = []
    for text in texts:
        stream += [(ord(c), document_id(text)) for c in text]
        if text and separator is not None:
            stream.append((separator, None))
    room = context - (bos is not None)
    front = [] if bos is None else [(bos, None)]
    starts = range(0, len(stream) - room + 1, room)
    return [front + stream[start : start + room] for start in starts]


def documents_of(sequence):
    """Return the document of each token from the spans."""
    ends = [span.start for span in sequence.spans[1:]] + [len(sequence.tokens)]
    return [
        span.document
        for span, end in zip(sequence.spans, ends, strict=True)
        for _ in range(end - span.start)
    ]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    texts=st.lists(st.text("abc", max_size=12), max_size=20),
    context=st.integers(2, 9),
    bos=st.sampled_from([None, BOS]),
    separator=st.sampled_from([None, END]),
    batch_rows=st.integers(1, 5),
)
def test_packing_equals_the_slow_one_from_any_point_on(texts, context, bos, separator, batch_rows):
    options = {"context_tokens": context, "bos": bos, "separator": separator}
    made = list(pack(texts, letters, batch_rows=batch_rows, **options))
    found = [list(zip(s.tokens, documents_of(s), strict=True)) for s in made]
    assert found == slow_pack(texts, context, bos, separator)
    for stop, sequence in enumerate(made, start=1):
        row, offset = sequence.next_row, sequence.next_offset
        resumed = pack(texts[row:], letters, first=stop, row=row, offset=offset, **options)
        assert list(resumed) == made[stop:]


def test_equal_texts_share_a_document_id_whatever_their_white_space():
    assert document_id("a  b\n") == document_id(" a b") != document_id("ab")
    assert 0 <= document_id("x") < 2**63


def test_sources_of_every_local_kind_give_the_same_documents(tmp_path):
    texts = ["first text", 'second "text"', "third"]
    lines = "".join(json.dumps({"text": t, "n": i}) + "\n" for i, t in enumerate(texts))
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(t) + "\n" for t in texts))
    (tmp_path / "c.txt").write_text("\n \n".join(texts) + "\n")
    (tmp_path / "e.csv").write_text(
        "text\n" + "".join(f'"{t.replace(chr(34), chr(34) * 2)}"\n' for t in texts)
    )
    pq.write_table(pa.table({"text": texts}), tmp_path / "d.parquet")
    with gzip.open(tmp_path / "f.jsonl.gz", "wt") as file:
        file.write(lines)
    for name in ("a.jsonl", "b.jsonl", "c.txt", "d.parquet", "e.csv", "f.jsonl.gz"):
        found = list(documents(CorpusConfig(dataset=str(tmp_path / name))))
        assert [t.strip() for t in found] == texts, name
        assert [
            t.strip() for t in documents(CorpusConfig(dataset=str(tmp_path / name)), skip=2)
        ] == texts[2:]
    assert len(list(documents(CorpusConfig(dataset=str(tmp_path))))) == 18


def test_missing_and_ambiguous_sources_say_what_to_do(tmp_path):
    (tmp_path / "two.jsonl").write_text('{"title": "x", "body": "y"}\n')
    (tmp_path / "bad.jsonl").write_text('"fine"\n{"no": 1}\n')
    (tmp_path / "odd.xyz").write_text("x")

    def read(name, **more):
        return list(documents(CorpusConfig(dataset=str(tmp_path / name), **more)))

    with pytest.raises(ConfigError, match=r"corpus\.column: name the text column"):
        read("two.jsonl")
    assert read("two.jsonl", column="body") == ["y"]
    with pytest.raises(ConfigError, match="no column 'nobody'"):
        read("two.jsonl", column="nobody")
    with pytest.raises(ConfigError, match="line 2: expected a string"):
        read("bad.jsonl")
    with pytest.raises(ConfigError, match=r"odd\.xyz is none of"):
        read("odd.xyz")
    with pytest.raises(NotFound, match="there is no such file"):
        read("gone.jsonl")
    with pytest.raises(ConfigError, match=r"corpus\.dataset: say where"):
        list(documents(CorpusConfig()))


def test_identity_follows_the_content_and_not_the_place(tmp_path):
    for name, text in (("x", "one"), ("y", "one"), ("z", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.txt").write_text(text)
    x, y, z = (identity(CorpusConfig(dataset=str(tmp_path / n / "c.txt"))) for n in "xyz")
    assert x == y != z


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("model"))


def all_of(source: SequenceSource, first: int = 0, stop: int = 10**6):
    return [sequence for chunk in source.read(first, stop) for sequence in chunk]


def test_sequences_are_stored_once_and_read_back(tmp_path, model):
    write_corpus(tmp_path / "c.jsonl")
    config = CorpusConfig(dataset=str(tmp_path / "c.jsonl"), context_tokens=16, bos="always")
    source = SequenceSource(Lake(str(tmp_path / "lake")), config, Tokenizer(str(model)))
    made = all_of(source)
    assert len(made) > 800
    assert source.stored() == len(made)
    assert all_of(source) == made
    assert all_of(source, 100, 120) == made[100:120]
    assert all(s.tokens[0] == 0 for s in made)


def test_a_corpus_made_in_pieces_equals_one_made_at_once(tmp_path, model):
    write_corpus(tmp_path / "c.jsonl", n_documents=900)
    config = CorpusConfig(dataset=str(tmp_path / "c.jsonl"), context_tokens=16)
    tokenizer = Tokenizer(str(model))
    whole = SequenceSource(Lake(str(tmp_path / "a")), config, tokenizer)
    pieces = SequenceSource(Lake(str(tmp_path / "b")), config, tokenizer)
    for stop in (3, 700, 1024, 1500, 10**6):
        all_of(pieces, 0, stop)
    assert all_of(pieces) == all_of(whole)
    count = "SELECT count(*), count(DISTINCT sequence) FROM sequences"
    (rows,) = Lake(str(tmp_path / "b")).sql(count).fetchall()
    assert rows[0] == rows[1] == len(all_of(whole))


def test_reader_that_stops_early_leaves_no_thread(tmp_path, model):
    import threading

    write_corpus(tmp_path / "c.jsonl", n_documents=2000)
    config = CorpusConfig(dataset=str(tmp_path / "c.jsonl"), context_tokens=8)
    source = SequenceSource(Lake(str(tmp_path / "lake")), config, Tokenizer(str(model)))
    chunks = source.read(0, 10**6)
    next(chunks)
    chunks.close()
    assert not [t for t in threading.enumerate() if t.name == "sequences"]


def test_special_token_in_a_text_stays_text(model):
    tokenizer = Tokenizer(str(model))
    assert tokenizer.special == [0]
    assert tokenizer.bos(CorpusConfig(bos="always")) == 0
    assert tokenizer.bos(CorpusConfig()) is None
    rows = tokenizer.vocabulary()
    assert [row["token_id"] for row in rows] == list(range(len(WORDS)))
    assert [row["special"] for row in rows] == [True] + [False] * (len(WORDS) - 1)
