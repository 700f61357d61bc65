"""Every explainer against every scorer, on the shipped model or on one of yours.

    python benchmarks/methods.py [--latents 12] [--hookpoint layers.3] [--pattern-only]
        [--model M --coder C --dataset D] [--tokens 65536] [--folder F]

Captures once, then explains the same latents with every explainer and scores each explanation with
every scorer. What asks a language model is answered by rules on loopback: the explainer names the
marked piece it saw most, the judge looks for the pieces that a description names. The figures
compare methods under that judge; they say nothing about language models. `--pattern-only` takes the
explainers and scorers that need none.

A cell is the mean of the scorer's own metric over latents, then in brackets what explanations of
other latents get on the same items; `-` where nothing could be judged. The columns at the right
count latents with an explanation, without one, and failed judgements.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake

MODEL_FREE = ("pattern", "constant", "borrowed", "random")
ASKING = (
    *("none", "default", "contrastive", "single_token", "token_list", "output_centric"),
    *("both_views", "best_of_k", "iterative"),
)
JUDGES = (
    *("detection", "fuzzing", "fuzzing_texts", "intruder", "simulation", "embedding"),
    *("example_embedding", "surprisal", "intervention", "sensitivity"),
)
_MARKED = re.compile(r"<<\s*(.+?)\s*>>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)+)"')
_NUMBERED = re.compile(r"^\d+: (.*)$", re.MULTILINE)


def main() -> None:
    """Capture, sample, explain and score, and print the table."""
    from tests.wire import Wire

    arguments = parsed()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="lakeinterp-methods-"))
    with Wire(answer) as wire:
        config = settings(arguments, folder, wire)
        explainers, scorers = MODEL_FREE, ("pattern",)
        if not arguments.pattern_only:
            explainers, scorers = (*MODEL_FREE, *ASKING), ("pattern", *JUDGES)
        lake = made(config, arguments)
        table = [[*row(lake, config, name, scorers)] for name in explainers]
    show(["explainer", *scorers, "explained", "not", "failed"], table)
    print(f"{arguments.latents} latents of {arguments.hookpoint}, {wire.n_requests:,} requests")


def parsed() -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--latents", type=int, default=12)
    parser.add_argument("--hookpoint", default="layers.3")
    parser.add_argument("--model")
    parser.add_argument("--coder")
    parser.add_argument("--dataset")
    parser.add_argument("--tokens", type=int, default=65_536)
    parser.add_argument("--pattern-only", action="store_true", help="nothing that asks a model")
    parser.add_argument("--embedding-model", help="sentence-transformers folder; made if not given")
    parser.add_argument("--folder", help="kept; holds the lake")
    return parser.parse_args()


def settings(arguments: argparse.Namespace, folder: Path, wire: Any) -> Config:
    """Return the settings of the capture and of every method."""
    from lakeinterp.commands.demo import settings as demo
    from lakeinterp.config import load

    values: dict[str, object] = demo(str(folder / "lake"))
    given = {"model": arguments.model, "coder": arguments.coder}
    values |= {f"capture.{name}": value for name, value in given.items() if value}
    if arguments.dataset:
        values |= {"corpus.dataset": arguments.dataset, "corpus.bos": "auto"}
    values |= {
        "capture.hookpoints": (arguments.hookpoint,),
        "capture.n_tokens": arguments.tokens,
        "sampling.max_latents": arguments.latents,
        "score.n_borrowed": 2,
        "score.embedding_model": arguments.embedding_model or str(folder / "embedder"),
        "chat.retry_wait_s": 0,
    }
    config = load(values=values)
    if not arguments.embedding_model and not arguments.pattern_only:
        make_embedder(folder / "embedder", config.capture.model)
    route = wire.route()
    chat = config.chat.model_copy(update={"explainer": route, "judge": route})
    return config.model_copy(update={"chat": chat})


def make_embedder(folder: Path, model: str) -> None:
    """Write a sentence-transformers folder that pools the subject model's hidden states."""
    if folder.exists():
        return
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer  # type: ignore[import-not-found]

    words = Transformer(model, max_seq_length=128)
    words.tokenizer.pad_token = words.tokenizer.pad_token or words.tokenizer.eos_token
    pooled = Pooling(words.get_embedding_dimension(), "mean")
    SentenceTransformer(modules=[words, pooled], device="cpu").save(str(folder))


def made(config: Config, arguments: argparse.Namespace) -> Lake:
    """Capture and sample, as far as that is not done."""
    from lakeinterp.capture import capture
    from lakeinterp.lake import Lake
    from lakeinterp.sampling import sample

    lake = Lake(config.lake)
    capture(lake, config)
    sample(lake, config)
    return lake


def row(lake: Lake, config: Config, explainer: str, scorers: Sequence[str]) -> list[str]:
    """Explain with one explainer, score with every scorer, and return the table's row."""
    from lakeinterp import pipeline
    from lakeinterp.errors import LakeinterpError

    changes: dict[str, object] = {"explainer": explainer}
    if explainer in ("borrowed", "random"):
        changes["source_explainer"] = "pattern"
    explain = config.explain.model_copy(update=changes)
    config = config.model_copy(update={"explain": explain})
    told = pipeline.explain(config, run=pipeline.new_run()).counts
    cells, n_failed = [], 0
    for scorer in scorers:
        score = config.score.model_copy(update={"scorers": (scorer,)})
        try:
            done = pipeline.score(
                config.model_copy(update={"score": score}), run=pipeline.new_run()
            )
        except LakeinterpError as exc:
            print(f"{explainer} x {scorer}: {exc}", file=sys.stderr)
            cells.append("refused")
            continue
        n_failed += done.n_failed
        cells.append(cell(lake, config, explainer, scorer))
    print(f"{explainer}: {', '.join(cells)}", file=sys.stderr, flush=True)
    n_not = sum(told.values()) - told["ok"]
    return [explainer, *cells, str(told["ok"]), str(n_not), str(n_failed)]


def cell(lake: Lake, config: Config, explainer: str, scorer: str) -> str:
    """Return the mean of a scorer's own metric and of its null over one explainer's latents."""
    from lakeinterp.score.scorer import load_scorer

    metric = load_scorer(scorer, config.score).headline
    ((value, null),) = (
        lake.sql(
            "SELECT avg(value), avg(null_value) FROM scores JOIN explanations AS e "
            f"USING (capture, hookpoint, latent, explanation) WHERE e.explainer = '{explainer}' "
            f"AND scorer = '{scorer}' AND metric = '{metric}'"
        )
    ).fetchall()
    if value is None:
        return "-"
    return f"{value:.2f}" + ("" if null is None else f" ({null:.2f})")


def show(head: Sequence[str], table: Sequence[Sequence[str]]) -> None:
    """Print the table as Markdown."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for line in table:
        print("| " + " | ".join(line) + " |")


def answer(body: dict[str, Any]) -> str:
    """Answer any request of the shipped prompts by rules over marked and quoted pieces."""
    asked: str = body["messages"][-1]["content"]
    if "Description: " not in asked:
        if "is the intruder?" in asked:
            return json.dumps({"intruder": odd_one(_NUMBERED.findall(asked))})
        return json.dumps({"explanation": f'the piece "{most_seen(asked)}"'})
    description = asked.partition("Description: ")[2].partition("\n")[0]
    pieces = [p.strip() for p in _QUOTED.findall(description)] or [description.split()[-1]]
    if "Give the activations" in asked:
        tokens = _NUMBERED.findall(asked.partition("Tokens:")[2])
        found = [n for n, t in enumerate(tokens, start=1) if t.strip() in pieces]
        return json.dumps({"activations": [{"token": n, "activation": 10} for n in found]})
    if asked.rstrip().endswith("texts."):
        n = int(asked.split()[-2])
        return json.dumps({"texts": [f"Number {i} is {pieces[0]} and {i}." for i in range(n)]})
    if "Which list" in asked:
        lists = [asked.partition(f"List {n}: ")[2].partition("\n")[0] for n in (1, 2)]
        hits = [sum(p in line for p in pieces) for line in lists]
        second = hits[1] > hits[0] or (hits[0] == hits[1] and coin(asked))
        return json.dumps({"list": 2 if second else 1})
    texts = _NUMBERED.findall(asked.partition("Texts:")[2])
    return json.dumps({"labels": [int(fits(pieces, text)) for text in texts]})


def fits(pieces: Sequence[str], text: str) -> bool:
    """Whether a text holds one of the pieces, inside the marks where it has some."""
    marked = _MARKED.findall(text)
    return any(p in m for m in marked for p in pieces) if marked else any(p in text for p in pieces)


def most_seen(asked: str) -> str:
    """Return the marked piece seen most often, else the first that is listed or quoted."""
    counted = Counter(piece.replace('"', "") for piece in _MARKED.findall(asked))
    if counted:
        return max(sorted(counted), key=lambda piece: counted[piece])
    quoted = [p.strip() for p in _QUOTED.findall(asked) if p.strip()]
    return quoted[0] if quoted else "the"


def odd_one(texts: Sequence[str]) -> int:
    """Say which text, from 1, has marked pieces that the others have least."""
    found = [set(_MARKED.findall(text)) for text in texts]
    seen = Counter(piece for pieces in found for piece in pieces)
    shared = [max((seen[p] for p in pieces), default=0) for pieces in found]
    return 1 + shared.index(min(shared))


def coin(text: str) -> bool:
    """Return a fair choice that depends on the text alone."""
    return bool(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0] & 1)


if __name__ == "__main__":
    main()
