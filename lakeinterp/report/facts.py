"""The facts a page opens with: what was captured, from what, and how it was sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakeinterp.report import words

if TYPE_CHECKING:
    from lakeinterp.config import SamplingConfig
    from lakeinterp.report.reader import Reader


@dataclass(frozen=True, slots=True)
class Fact:
    """A name, a value and a remark."""

    name: str
    value: str
    more: str = ""


def facts(reader: Reader) -> list[Fact]:
    """Return a capture's facts in the order of the data; what is not known is left out."""
    row = reader.capture
    n_tokens = max((h.n_tokens or 0 for h in reader.hookpoints), default=0)
    found = [
        Fact("Model", words.place(row["model"]), _revision(row["model_revision"])),
        Fact("Sparse coder", words.place(row["coder"]), _revision(row["coder_revision"])),
        Fact("Corpus", corpus(reader), f"contexts of {row['context_tokens']} tokens"),
        Fact("Tokens", words.count(n_tokens), "without special tokens")
        if n_tokens
        else Fact("Tokens", "not counted yet"),
        _hookpoints(reader),
        *_sampling(reader),
        Fact("Captured", f"{row['created_at']:%Y-%m-%d %H:%M} UTC", f"as {reader.name}"),
        *_models(reader),
        *_versions(reader),
    ]
    return [fact for fact in found if fact.value]


def corpus(reader: Reader) -> str:
    """Return the name of the data set that the capture's settings tell, else the corpus' id."""
    settings = reader.settings().get("corpus")
    name = settings.get("dataset") if isinstance(settings, dict) else None
    return words.place(name) if name else str(reader.capture["corpus"])


def _revision(revision: str | None) -> str:
    return f"revision {revision[:12]}" if revision else ""


def _hookpoints(reader: Reader) -> Fact:
    n_latents = sum(h.n_latents for h in reader.hookpoints)
    names = ", ".join(h.hookpoint for h in reader.hookpoints[:4])
    if len(reader.hookpoints) > 4:
        names += f" and {len(reader.hookpoints) - 4} more"
    return Fact("Hookpoints", names, f"{words.count(n_latents)} latents in all")


def _sampling(reader: Reader) -> list[Fact]:
    """Return how the explanations' samples were drawn, the newest first.

    Of samples that the settings do not give now only the digest is known.
    """
    mine, found = reader.config.sampling, []
    for sample, n in list(reader.samples().items())[:3]:
        name = "Examples" if sample == reader.newest_sample else "Earlier examples"
        if sample == reader.present_sample:
            found.append(Fact(name, _sampling_words(mine), f"seed {mine.seed}"))
        else:
            drawn = f"of {words.count(n)} explanations, drawn with other settings or fewer tokens"
            found.append(Fact(name, f"sample {sample[:8]}", drawn))
    return found


def _sampling_words(sampling: SamplingConfig) -> str:
    return (
        f"windows of {sampling.window_tokens} tokens, {sampling.n_quantiles} quantiles, "
        f"{words.share(sampling.explain_share)} of the documents for the explainer"
    )


def _models(reader: Reader) -> list[Fact]:
    models = sorted({model for cost in reader.costs.values() for model in cost.models})
    return [Fact("Language models asked", ", ".join(models))] if models else []


def _versions(reader: Reader) -> list[Fact]:
    versions = reader.versions()
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return [Fact("Versions", listed)] if listed else []
