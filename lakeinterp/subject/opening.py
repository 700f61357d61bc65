"""The captured model and its coders, opened again from the capture's row and kept between units.

One model at a time is kept in a process, with the coders used last, so that units and hookpoints
do not load them again.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from lakeinterp.capture import points as points_of
from lakeinterp.capture.model import SubjectModel
from lakeinterp.config import CaptureConfig, CorpusConfig
from lakeinterp.corpus import Tokenizer
from lakeinterp.errors import ConfigError
from lakeinterp.fingerprint import identity
from lakeinterp.lake import where
from lakeinterp.subject.check import is_there, made_of
from lakeinterp.subject.language import LanguageModel, open_language_model
from lakeinterp.subject.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakeinterp.capture.points import Point
    from lakeinterp.coders import CoderFolder
    from lakeinterp.lake.bench import Bench

N_CODERS = 2
"""Coders kept in memory beside the model."""


@dataclass
class _Opened:
    """One capture's model, its tokenizer, and the hookpoints opened last."""

    key: str
    settings: CaptureConfig
    model: SubjectModel
    tokenizer: Tokenizer
    coders: CoderFolder
    bos: int | None
    lock: threading.RLock = field(default_factory=threading.RLock)
    subjects: OrderedDict[str, Subject] = field(default_factory=OrderedDict)


_LOCK = threading.RLock()
_KEPT: list[_Opened] = []
_LANGUAGES: dict[str, LanguageModel] = {}


def open_subject(bench: Bench) -> Subject:
    """Return the model of a capture with the coder of a hookpoint.

    The capture's row says which files; `capture.device` and `device_map` of the present settings
    say where they are put, and `capture.model` and `capture.coder` where they are if they were
    moved. The precision is the captured one.

    Args:
        bench: Its lake, settings, capture and hookpoint.

    Raises:
        MissingExtra: transformers or nnsight is not installed.
        NotFound: there is no such model, coder or hookpoint any more.
        ConfigError: model, tokenizer or coder are not those that were captured, or the capture was
            made by another tool and does not say which they were.
    """
    row = bench.lake.capture(bench.capture)
    settings = _settings(row, bench)
    key = json.dumps([bench.lake.root, bench.capture, settings.model_dump(mode="json")])
    with _LOCK:
        opened = next((kept for kept in _KEPT if kept.key == key), None)
        if opened is None:
            close()
            opened = _open(key, row, settings)
            _KEPT.append(opened)
        subjects = opened.subjects
        if bench.hookpoint not in subjects:
            while len(subjects) >= N_CODERS:
                subjects.popitem(last=False)
            subjects[bench.hookpoint] = _subject(opened, row, bench)
        subjects.move_to_end(bench.hookpoint)
        return subjects[bench.hookpoint]


def open_language(name: str, revision: str | None, settings: CaptureConfig) -> LanguageModel:
    """Return a causal language model that is no captured one; one is kept, as captures are.

    Args:
        name: Folder or hub id.
        revision: Of a hub model.
        settings: `device` and `device_map` say where it is put.

    Raises:
        MissingExtra: transformers or nnsight is not installed.
        NotFound: there is no such model.
        ConfigError: it is no causal language model.
    """
    key = json.dumps([name, identity(name, revision), settings.device, settings.device_map])
    with _LOCK:
        if key not in _LANGUAGES:
            _LANGUAGES.clear()
            _LANGUAGES[key] = open_language_model(name, revision, settings)
        return _LANGUAGES[key]


def close() -> None:
    """Let go of every model that is kept; those in use stay until they are no longer used."""
    with _LOCK:
        _KEPT.clear()
        _LANGUAGES.clear()


def _settings(row: Mapping[str, Any], bench: Bench) -> CaptureConfig:
    """Return the settings that open what was captured, on this machine.

    Raises:
        ConfigError: the capture was not made by lakeinterp.
    """
    kept = made_of(row)
    captured, present = CaptureConfig.model_validate(kept["capture"]), bench.config.capture
    here: dict[str, Any] = {
        "device": present.device,
        "device_map": present.device_map,
        "encode_chunk_bytes": present.encode_chunk_bytes,
        "dtype": kept["identity"]["dtype"],
        "model": _moved(captured.model, present.model),
        "coder": _moved(captured.coder, present.coder),
    }
    return captured.model_copy(update=here)


def _moved(captured: str, present: str) -> str:
    """Return where files are: where they were, unless they are gone and another place is given."""
    return present if present and not is_there(captured) else captured


def _open(key: str, row: Mapping[str, Any], settings: CaptureConfig) -> _Opened:
    coders = points_of.of_files(settings)
    model = SubjectModel(settings, head=True)
    _require_same("model", settings.model, model.revision, row["model_revision"])
    coders = coders or points_of.of_neurons(model, settings)
    _require_same("coder", settings.coder, coders.revision, row["coder_revision"])
    tokenizer = Tokenizer(settings.model, settings.model_revision)
    _require_same("model", f"the tokenizer of {settings.model}", tokenizer.digest, row["tokenizer"])
    corpus = CorpusConfig.model_validate(json.loads(row["config"])["corpus"])
    return _Opened(key, settings, model, tokenizer, coders, tokenizer.bos(corpus))


def _require_same(kind: str, name: str, found: str, captured: str) -> None:
    if found != captured:
        raise ConfigError(
            f"capture.{kind}: {name} is not what was captured ({found}, not {captured}); "
            f"put it back, or set capture.{kind} to where it is now"
        )


def _subject(opened: _Opened, row: Mapping[str, Any], bench: Bench) -> Subject:
    return Subject(
        opened.model,
        opened.tokenizer,
        bench.lake.vocabulary(row["tokenizer"]),
        _point(opened, bench),
        bos=opened.bos,
        value_dtype=getattr(torch, row["value_dtype"]),
        lock=opened.lock,
    )


def _point(opened: _Opened, bench: Bench) -> Point:
    """Return the hookpoint's coder as the capture settled it."""
    place = where(capture=bench.capture, hookpoint=bench.hookpoint)
    row = bench.lake.one("hookpoints", place)
    wanted = tuple(s for s in opened.coders.specs if s.hookpoint == bench.hookpoint)
    if not wanted:
        raise ConfigError(
            f"capture.coder: {opened.settings.coder} holds no coder of {bench.hookpoint}"
        )
    coders = type(opened.coders)(
        opened.coders.name, opened.coders.revision, wanted, opened.coders.files
    )
    (point,) = points_of.load(coders, opened.model, opened.settings)
    device = opened.model.device_of(point.read)
    return points_of.settle(point, row, {}, device, opened.settings)
