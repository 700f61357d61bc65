"""Every explainer against every scorer, on the shipped model or on one of yours.

    python benchmarks/methods.py [--latents 5] [--hookpoint layers.3] [--pattern-only]
        [--subject MODEL --coder CODER --dataset D] [--tokens 131072] [--folder F]

Captures once, then explains the same latents, some that one token explains well, with every
explainer, and scores each explanation with every scorer, on few items a latent so that all of it
takes minutes. What asks a language model is answered by rules on loopback: the explainer names the
marked piece it saw most, the judge looks for the pieces that a description names. The figures
compare methods under that judge; they say nothing about language models, and with so few latents
little about methods. `--pattern-only` takes the explainers and scorers that need none. `loaded` is
left out: it says what another explainer said.

A cell is the mean of the scorer's own metric over latents, then in brackets what explanations of
other latents get on the same items; `-` where nothing could be judged. The columns at the right
count latents with an explanation, without one, failed judgements, calls of the rules, and CPU
seconds of this process, which answers the calls itself.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
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
    *("detection", "fuzzing", "fuzzing_texts", "fuzzing_neighbours", "intruder", "simulation"),
    *("embedding", "example_embedding", "surprisal", "intervention", "sensitivity"),
)
_MARKED = re.compile(r"<<\s*(.+?)\s*>>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)+)"|`([^`]+)`')
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
        table = [[*row(lake, config, name, scorers, wire)] for name in explainers]
    show(["explainer", *scorers, "explained", "not", "failed", "calls", "CPU s"], table)
    print(
        f"\n{arguments.latents} latents of {arguments.hookpoint}, {wire.n_requests:,} calls, "
        f"{time.process_time():.0f} s of CPU"
    )


def parsed() -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--latents", type=int, default=5)
    parser.add_argument("--hookpoint", default="layers.3")
    parser.add_argument(
        "--where",
        default="single_token > 0.7 AND density < 0.02 AND n_windows >= 60",
        help="the latents among which they are drawn: such as the rules can say something of",
    )
    parser.add_argument("--subject", help="folder or hub id of the model")
    parser.add_argument("--coder", help="of that model")
    parser.add_argument("--dataset", help="texts for that model")
    parser.add_argument("--tokens", type=int, default=131_072)
    parser.add_argument("--pattern-only", action="store_true", help="nothing that asks a model")
    parser.add_argument("--embedding-model", help="sentence-transformers folder; made if not given")
    parser.add_argument("--folder", help="kept; holds the lake")
    return parser.parse_args()


def settings(arguments: argparse.Namespace, folder: Path, wire: Any) -> Config:
    """Return the settings of the capture and of every method."""
    from lakeinterp.commands.demo import settings as demo
    from lakeinterp.config import load

    values: dict[str, object] = demo(str(folder / "lake"))
    given = {"model": arguments.subject, "coder": arguments.coder}
    values |= {f"capture.{name}": value for name, value in given.items() if value}
    if arguments.dataset:
        values |= {"corpus.dataset": arguments.dataset, "corpus.bos": "auto"}
    values |= {
        "capture.hookpoints": (arguments.hookpoint,),
        "capture.n_tokens": arguments.tokens,
        # One unit of work, so that a row's time is that of its methods.
        "capture.n_buckets": 1,
        "sampling.max_latents": arguments.latents,
        "sampling.n_explain": 20,
        "sampling.n_explain_negatives": 20,
        "sampling.where": arguments.where,
        # Few quantiles, so that each has enough examples for an intruder among them.
        "sampling.n_quantiles": 3,
        "sampling.n_score": 18,
        "sampling.n_random": 18,
        "sampling.n_neighbour": 4,
        "score.n_borrowed": 2,
        "score.n_simulated": 8,
        "score.n_interventions": 3,
        "score.n_written": 8,
        "score.repeat_share": 0,
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


def row(lake: Lake, config: Config, explainer: str, scorers: Sequence[str], wire: Any) -> list[str]:
    """Explain with one explainer, score with every scorer, and return the table's row."""
    from lakeinterp import pipeline
    from lakeinterp.errors import LakeinterpError

    n_before, before = wire.n_requests, time.process_time()
    changes: dict[str, object] = {"explainer": explainer}
    if explainer in ("borrowed", "random"):
        changes["source_explainer"] = "pattern"
    explain = config.explain.model_copy(update=changes)
    config = config.model_copy(update={"explain": explain})
    told = pipeline.explain(config, run=pipeline.new_run()).counts
    refused, n_failed = set[str](), 0
    for some in (tuple(scorers), *((name,) for name in scorers)):
        # One after the other only if one refuses: what they share is then done again.
        score = config.score.model_copy(update={"scorers": some})
        try:
            done = pipeline.score(
                config.model_copy(update={"score": score}), run=pipeline.new_run()
            )
        except LakeinterpError as exc:
            print(f"{explainer} x {', '.join(some)}: {exc}", file=sys.stderr)
            refused |= set(some) if len(some) == 1 else set()
            continue
        n_failed += done.n_failed
        if len(some) > 1:
            break
    cells = ["refused" if n in refused else cell(lake, config, explainer, n) for n in scorers]
    seconds = f"{time.process_time() - before:.0f}"
    print(f"{explainer}: {', '.join(cells)}; {seconds} s", file=sys.stderr, flush=True)
    n_not = sum(told.values()) - told["ok"]
    counts = [told["ok"], n_not, n_failed, wire.n_requests - n_before]
    return [explainer, *cells, *map(str, counts), seconds]


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
    pieces = named(description)
    if "Give the activations" in asked:
        tokens = _NUMBERED.findall(asked.partition("Tokens:")[2])
        found = [n for n, t in enumerate(tokens, start=1) if t.strip() in pieces]
        return json.dumps({"activations": [{"token": n, "activation": 10} for n in found]})
    if asked.rstrip().endswith("texts."):
        n, piece = int(asked.split()[-2]), "".join(pieces[:1])
        return json.dumps({"texts": [written(i, piece) for i in range(n)]})
    if "Which list" in asked:
        lists = [asked.partition(f"List {n}: ")[2].partition("\n")[0] for n in (1, 2)]
        hits = [sum(p in line for p in pieces) for line in lists]
        second = hits[1] > hits[0] or (hits[0] == hits[1] and coin(asked))
        return json.dumps({"list": 2 if second else 1})
    texts = _NUMBERED.findall(asked.partition("Texts:")[2])
    return json.dumps({"labels": [int(fits(pieces, text)) for text in texts]})


def written(number: int, piece: str) -> str:
    """Return a text that holds a piece in surroundings of prose and of code."""
    return f"The {piece} {number}. {piece} ({piece}, x.{piece}) = {piece}\n    {piece} {number}"


def named(description: str) -> list[str]:
    """Return the pieces that a description names: in quotes, or by a rule between backticks."""
    found = ("".join(pair).replace("␣", " ").strip() for pair in _QUOTED.findall(description))
    return [piece for piece in found if piece]


def fits(pieces: Sequence[str], text: str) -> bool:
    """Whether a text holds one of the pieces, inside the marks where it has some.

    A description that names none fits any text.
    """
    if not pieces:
        return True
    marked = _MARKED.findall(text)
    return any(p in m for m in marked for p in pieces) if marked else any(p in text for p in pieces)


def most_seen(asked: str) -> str:
    """Return the marked piece seen most often, else the first that is listed or quoted."""
    counted = Counter(piece.replace('"', "") for piece in _MARKED.findall(asked))
    if counted:
        return max(sorted(counted), key=lambda piece: counted[piece])
    return (named(asked) or ["the"])[0]


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
