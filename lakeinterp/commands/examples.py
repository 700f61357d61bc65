"""`lakeinterp examples`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lakeinterp.commands.common import CaptureOption, Common, console
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake import Lake
    from lakeinterp.report.examples import Selection
    from lakeinterp.terms import Unit

_DEFAULT = Common()
_HARD = (
    "n_same_token", "n_neighbour", "n_similar",
    "n_explain_same_token", "n_explain_neighbour", "n_explain_similar",
)  # fmt: skip


def examples(
    hookpoint: Annotated[str, Parameter(help="Where the latent is, for example layers.3.mlp.")],
    latent: Annotated[int, Parameter(help="Its number.")],
    /,
    *,
    role: Annotated[
        Literal["explain", "score"] | None,
        Parameter(help="Only what the explainer saw, or only what the scorers use."),
    ] = None,
    stratum: Annotated[
        Literal["activating", "random", "same_token", "neighbour", "similar"] | None,
        Parameter(help="Only one kind of window."),
    ] = None,
    n: Annotated[
        int,
        Parameter(
            name=["-n", "--n"], help="Windows of each role, kind and quantile; strongest first."
        ),
    ] = 3,
    top: Annotated[
        int, Parameter(help="The strongest of all windows, shown first; 0 leaves them out.")
    ] = 5,
    place: Annotated[
        bool, Parameter(negative=(), help="Say of each window its document and first token.")
    ] = False,
    capture: CaptureOption = None,
    common: Common = _DEFAULT,
) -> None:
    """Print a latent's examples, shaded by activation.

    First the strongest windows of all, then what was drawn for the explainer and the scorers.
    Active text stands in « » where there is no colour. Of a latent that the lake holds no examples
    of they are drawn now, with the settings as they stand, and not stored.
    """
    from lakeinterp.report.examples import Selection

    if n < 1:
        raise ConfigError(f"-n: give a number above zero, not {n}")
    if top < 0:
        raise ConfigError(f"--top: give a number of windows, not {top}")
    config = common.load()
    lake = common.open(config)
    unit = _unit(lake, capture, hookpoint, latent)
    if role is not None or stratum not in (None, "activating"):
        top = 0
    selection = Selection(role=role, stratum=stratum, n=n, shows_place=place)
    _show(lake, config.sampling, unit, latent, selection, top)


def _unit(lake: Lake, capture: str | None, hookpoint: str, latent: int) -> Unit:
    """Return the unit of a latent.

    Raises:
        NotFound: no such capture or hookpoint.
        ConfigError: the coder has no such latent.
    """
    from lakeinterp.lake import units
    from lakeinterp.terms import Unit

    name = str(lake.capture(capture)["capture"])
    (row,) = units.hookpoints(lake, name, [hookpoint])
    if not 0 <= latent < row["n_latents"]:
        raise ConfigError(f"{hookpoint} has latents 0 to {row['n_latents'] - 1}, not {latent}")
    return Unit(capture=name, hookpoint=hookpoint, bucket=latent // row["bucket_latents"])


def _show(
    lake: Lake, sampling: SamplingConfig, unit: Unit, latent: int, selection: Selection, top: int
) -> None:
    from lakeinterp.lake import where
    from lakeinterp.report import examples as shown

    place: dict[str, str | int] = {"capture": unit.capture, "hookpoint": unit.hookpoint}
    key = {**place, "latent": latent}
    counted = next(iter(lake.rows("latents", where(**key))), None)
    rows, remark = _rows(lake, sampling, unit, latent, counted)
    first, n_windows = _strongest(lake, sampling, unit, latent, top) if top and rows else ([], 0)
    tokenizer = lake.capture(unit.capture)["tokenizer"]
    vocabulary = shown.tokens_of(lake, tokenizer, shown.token_ids([*rows, *first], counted))
    out = console()
    is_coloured = out.is_terminal and not out.no_color and out.color_system is not None
    lines = shown.header(unit.hookpoint, latent, counted, vocabulary)
    lines += shown.nearest(lake.rows("neighbours", where(**key)))
    for line in lines:
        out.print(line, soft_wrap=True)
    if remark:
        out.print(remark, soft_wrap=True, markup=False)
    largest = max((row["peak"] for row in [*rows, *first]), default=None)
    if counted is not None:
        largest = counted["max"]
    how: dict[str, Any] = {"selection": selection, "is_coloured": is_coloured}
    _print(out, shown.strongest(first, vocabulary, largest, n_windows, **how))
    _print(out, shown.listing(rows, vocabulary, largest, **how))


def _print(out: Console, parts: Iterable[RenderableType]) -> None:
    for part in parts:
        out.print(part, soft_wrap=not out.is_terminal)


def _strongest(
    lake: Lake, sampling: SamplingConfig, unit: Unit, latent: int, top: int
) -> tuple[list[dict[str, Any]], int]:
    """Return the strongest windows of a latent in all documents, and how many it has."""
    only = {"explain_draw": "top", "score_draw": "top", "n_explain": top, "n_score": top}
    none = dict.fromkeys(["n_explain_negatives", "n_random", *_HARD], 0)
    rows, n_windows = _draw(lake, sampling.model_copy(update={**none, **only}), unit, latent)
    rows.sort(key=lambda row: (-row["peak"], row["start"]))
    return rows[:top], n_windows


def _rows(
    lake: Lake, sampling: SamplingConfig, unit: Unit, latent: int, counted: dict[str, Any] | None
) -> tuple[list[dict[str, Any]], str]:
    """Return the examples that the lake holds, or those drawn now, and a remark on them."""
    from lakeinterp.lake import where
    from lakeinterp.lake.units import sample_id

    if counted is not None and not counted["n_activations"]:
        tokens = f"{counted['n_tokens']:,}"
        return [], f"it never fires in the {tokens} captured tokens; more tokens may wake it"
    key: dict[str, str | int] = {
        "capture": unit.capture,
        "hookpoint": unit.hookpoint,
        "bucket": unit.bucket,
    }
    sample = sample_id(lake, unit.capture, sampling)
    held = lake.rows("examples", where(**key, sample=sample, latent=latent))
    if held:
        return held, ""
    return _drawn(lake, sampling, unit, latent)


def _drawn(
    lake: Lake, sampling: SamplingConfig, unit: Unit, latent: int
) -> tuple[list[dict[str, Any]], str]:
    from lakeinterp.lake.units import neighbours_app

    # An index over the corpus, or counts over all latents, are not made in passing.
    slow = ["n_similar", "n_explain_similar"]
    if not all(
        lake.committed("neighbours", neighbours_app(unit, method))
        for method in sampling.methods_needed
    ):
        slow += ["n_neighbour", "n_explain_neighbour"]
    quick = sampling.model_copy(update=dict.fromkeys(slow, 0))
    rows, n_windows = _draw(lake, quick, unit, latent)
    if rows:
        return rows, (
            "drawn now: the lake holds no examples of it with these settings; "
            "`lakeinterp sample` writes them"
        )
    if not n_windows:
        return [], "it never fires in the captured tokens; more tokens may wake it"
    return [], (
        f"it fires in {n_windows:,} windows, fewer than sampling.min_windows = "
        f"{sampling.min_windows}: nothing is drawn; --set sampling.min_windows=1 shows them"
    )


def _draw(
    lake: Lake, sampling: SamplingConfig, unit: Unit, latent: int
) -> tuple[list[dict[str, Any]], int]:
    """Return the examples of a latent, drawn now, and the windows in which it fires."""
    from lakeinterp.sampling.examples import draw
    from lakeinterp.sampling.session import session_for

    with session_for(lake, unit, sampling, None) as session:
        rows: list[dict[str, Any]] = draw(session, unit, [latent]).to_pylist()
        ((n_windows,),) = session.con.execute(
            "SELECT count(*) FROM windows WHERE latent = $latent", {"latent": latent}
        ).fetchall()
    return rows, int(n_windows)
