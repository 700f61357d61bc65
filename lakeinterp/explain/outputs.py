"""What a latent does to the model's output, as lists of tokens: read off its decoder row, or tried.

The views of Gur-Arieh et al. 2025 (arXiv 2501.08319): the vocabulary projection of the decoder row,
and the tokens that become likelier when its direction is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakeinterp.prompts import cited

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakeinterp.config import ExplainConfig
    from lakeinterp.lake import Bench
    from lakeinterp.subject.subject import TokenValue

FIELDS = frozenset({"n_output_tokens", "output_view", "steering_kl"})
"""Settings that decide what is shown of the output."""


def idle(config: ExplainConfig) -> set[str]:
    """Return those of `FIELDS` that do not matter as the others stand."""
    if not config.n_output_tokens:
        return {"output_view", "steering_kl"}
    return {"steering_kl"} if config.output_view == "logits" else set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Tokens that one view finds, farthest first."""

    raised: tuple[str, ...]
    lowered: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return them as two lines of a prompt."""
        return [
            f"more likely: {', '.join(map(cited, self.raised)) or 'none'}",
            f"less likely: {', '.join(map(cited, self.lowered)) or 'none'}",
        ]


Views = dict[str, Moved]
"""What is known of one latent's output, by the name of the view: `logits`, `steering`."""


def moved(bench: Bench, config: ExplainConfig) -> Mapping[int, Views]:
    """Open the subject model of a hookpoint and return what the unit's latents do to its output.

    Raises:
        ConfigError: the model has no head, the files are not those that were captured, or the
            capture does not say which they were.
        NotFound: they are gone.
    """
    from lakeinterp.subject.opening import open_subject

    subject, latents, n = open_subject(bench), list(bench.latents), config.n_output_tokens
    found: dict[int, Views] = {latent: {} for latent in latents}
    if config.output_view != "steering":
        for latent, at in zip(latents, subject.output_logits(latents, n), strict=True):
            found[latent]["logits"] = _moved(at.raised, at.lowered)
    if config.output_view != "logits":
        steered = subject.raised(latents, kl=config.steering_kl, n=n)
        for latent, tried in zip(latents, steered, strict=True):
            found[latent]["steering"] = _moved(tried.raised, tried.lowered)
    return found


def written(views: Views) -> str:
    """Return the lists as lines of a prompt; of two views under a heading each."""
    if len(views) == 1:
        return "\n".join(next(iter(views.values())).lines())
    headings = {"logits": "By its weights alone:", "steering": "Tried on texts:"}
    return "\n".join(
        line for view, lists in views.items() for line in (headings[view], *lists.lines())
    )


def as_detail(views: Views) -> dict[str, Any]:
    """Return the lists as a row keeps them."""
    return {
        view: {"raised": list(lists.raised), "lowered": list(lists.lowered)}
        for view, lists in views.items()
    }


def _moved(raised: Sequence[TokenValue], lowered: Sequence[TokenValue]) -> Moved:
    return Moved(raised=tuple(t.text for t in raised), lowered=tuple(t.text for t in lowered))
