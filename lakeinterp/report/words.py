"""Numbers, names and corpus text as people read them; pure functions, nothing is read here."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_METRICS = {
    "above_chance": "accuracy above chance",
    "auprc": "AUPRC",
    "auroc": "AUROC",
    "correlation_centred": "correlation without place",
    "correlation_window": "correlation within windows",
    "deviation_explained": "deviation explained",
    "f1": "F1",
    "fpr": "false positive rate",
    "iou": "IoU",
    "r_squared": "R²",
    "self_agreement": "judge agrees with itself",
    "self_kappa": "kappa of the judge with itself",
    "tpr": "true positive rate",
    "weighted_f1": "F1 by frequency",
}
_BREAKS = re.compile("(?:⏎\n)+")
PATTERN = "pattern"
"""Name of the explainer and of the scorer that ask no language model."""


def explainer_name(name: str, models: Iterable[str] = ()) -> str:
    """Return an explainer's name as what it is: a rule, or the models that wrote the text."""
    if name == PATTERN:
        return "pattern rule, no language model"
    return _with_models(name, models)


def scorer_name(name: str, models: Iterable[str] = ()) -> str:
    """Return a scorer's name as what it is: a rule applied, or the models that judged."""
    if name == PATTERN:
        return "rule applied, no language model"
    return _with_models(name, models)


def pair_name(explainer: str, scorer: str) -> str:
    """Return a short name of an explainer and a scorer."""
    if explainer == scorer == PATTERN:
        return "pattern rule"
    return f"{explainer} · {scorer}"


def place(name: str) -> str:
    """Return a hub id as it is, and of a folder or file on some machine the last part."""
    is_path = name.startswith(("/", "~", ".")) or ":\\" in name
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if is_path else name


def metric_name(metric: str) -> str:
    """Return a metric's name in words; one that is not known as it is, without underscores."""
    stem, _, part = metric.partition("_")
    if metric.endswith("_natural"):
        return f"{_METRICS.get(stem, stem)} at natural rate"
    if stem == "reference":
        return f"{_METRICS.get(part, part.replace('_', ' '))} as drawn"
    if stem in ("tpr", "fpr") and part:
        return f"{_METRICS[stem]}, {part.replace('_', ' ')}"
    return _METRICS.get(metric, metric.replace("_", " "))


def status_name(status: str | None) -> str:
    """Return a status in words."""
    return "unknown" if status is None else status.replace("_", " ")


def number(value: float | None) -> str:
    """Return three significant digits, thousands set apart; `–` for None."""
    if value is None:
        return "–"
    if isinstance(value, int) or (abs(value) >= 1000 and value == value):
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return text.replace("e-0", "e-").replace("e+0", "e+")


def count(value: int | None) -> str:
    """Return a whole number with thousands set apart; `–` for None."""
    return "–" if value is None else f"{value:,}"


def latents(n: int) -> str:
    """Return a number of latents."""
    return f"{n:,} latent" if n == 1 else f"{n:,} latents"


def share(value: float | None) -> str:
    """Return a share in per cent with two significant digits; `–` for None."""
    if value is None:
        return "–"
    percent = 100 * value
    if percent == 0 or percent >= 9.95:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.095 else f"{percent:.1g} %"


def score(value: float | None) -> str:
    """Return a score with two decimals; `–` for None."""
    return "–" if value is None else f"{value:z.2f}".replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """Return an interval with two decimals; empty if there is none."""
    return "" if low is None or high is None else f"{score(low)} to {score(high)}"


def bounds(low: float | None, high: float | None) -> str:
    """Return an interval in brackets as a terminal's table shows it; empty if there is none."""
    return "" if low is None or high is None else f"[{score(low)}, {score(high)}]"


def p_value(value: float | None) -> str:
    """Return a p value; below a thousandth only that."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def dollars(value: float) -> str:
    """Return US dollars, more digits for less money."""
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4f}"


def cost(n_replies: int, usd: float, n_free: int, n_unknown: int) -> str:
    """Return what replies cost, without hiding those whose cost nobody knows."""
    if not n_replies:
        return "no calls"
    n_priced = n_replies - n_free - n_unknown
    parts = [dollars(usd)] if n_priced else []
    parts += [f"{count(n_free)} free"] if n_free else []
    parts += [f"{count(n_unknown)} of unknown cost"] if n_unknown else []
    return ", ".join(parts)


def n_bytes(value: int) -> str:
    """Return a file size."""
    size = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def ranges(numbers: Iterable[int]) -> str:
    """Return ascending numbers with runs of three and more drawn together: `2, 7–11, 40`."""
    runs: list[list[int]] = []
    for i in numbers:
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    parts: list[str] = []
    for first, last in runs:
        few = [str(first)] if first == last else [str(first), str(last)]
        parts += few if last - first < 2 else [f"{first}–{last}"]
    return ", ".join(parts)


def visible(text: str) -> str:
    r"""Return text without characters that steer a screen, each replaced by a printable one.

    Control characters and invisible format characters (direction overrides, zero-width
    spaces, …) become their code in ⟨⟩. A line break becomes `⏎`
    followed by the break itself, a run of breaks as many marks and one break; a tab `⇥`
    followed by the tab.
    """
    if text.isprintable():
        return text
    shown = "".join(map(_visible, text))
    return _BREAKS.sub(lambda run: run[0].replace("\n", "") + "\n", shown)


def one_line(text: str) -> str:
    """Return `visible` text on one line: breaks are marks only, runs of blanks are one."""
    return " ".join(visible(text).split())


@lru_cache(maxsize=4096)
def _visible(character: str) -> str:
    if character.isprintable():
        return character
    if character == "\n":
        return "⏎\n"
    if character == "\t":
        return "⇥\t"
    if unicodedata.category(character) == "Zs":
        return " "
    return f"⟨{ord(character):04X}⟩"


def _with_models(name: str, models: Iterable[str]) -> str:
    listed = ", ".join(models)
    return f"{name} by {listed}" if listed else name
