"""The statements of the served page against the same worked out row by row in Python."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lakeinterp.lake import queries
from lakeinterp.lake.fit import as_records
from lakeinterp.lake.schema import TABLES
from lakeinterp.web.listing import SORTS
from lakeinterp.web.shelf import PLACES
from tests.lakes import row
from tests.report.random_rows import CAPTURE, HOOKPOINTS, N_LATENTS, Rows, grouped, of_last_settings

MACROS = ("macros/newest_explanations", "macros/newest_scores")
PAIRS = (("a", "x"), ("b", "y"))
READ = ("latents", "explanations", "scores", "judgements", "replies")
SCORE = ("value", "ci_low", "ci_high", "n", "n_failed", "null_value", "corrected", "p_value")
WORDS = ["cat", "Dog", "t", "u", "<s>"]


def number(r):
    return HOOKPOINTS.index(r["hookpoint"]) * PLACES + r["latent"]


def numbers(rows):
    counted = {number(r): r for r in rows.of("latents")}
    places = counted.keys() | {number(e) for e in rows.of("explanations")}
    scores = {(number(s), s["explainer"], s["scorer"]): s for s in rows.newest_scores("m")}
    for pair, (explainer, scorer) in enumerate(PAIRS):
        for place in places:
            r = counted.get(place, {"status": "not sampled"})
            s = scores.get((place, explainer, scorer), {})
            known = (r.get("density"), r.get("max"), r.get("n_activations"))
            yield (pair, place, r["status"], *known, *(s.get(c) for c in SCORE), s.get("status"))


def texts(rows):
    said = defaultdict(list)
    for e in sorted(rows.newest_explanations(), key=lambda e: e["explainer"]):
        said[number(e)].append({c: e[c] for c in ("explainer", "text", "status", "reason")})
    counted = {number(r): (r["top_tokens"] or [])[:2] for r in rows.of("latents")}
    for place in said.keys() | counted.keys():
        tokens = [{"token_id": t["token_id"], "count": t["count"]} for t in counted.get(place, [])]
        parts = [e["text"] for e in said[place] if e["text"] is not None]
        told = "\n".join(parts) if parts else None
        spelled = "\n".join(WORDS[t["token_id"]] for t in tokens) if tokens else None
        haystack = "\n".join(part for part in (told, spelled) if part is not None)
        yield place, said[place], tokens, haystack.lower()


def history(rows, hookpoint, latent):
    for e in rows.of("explanations"):
        if (e["hookpoint"], e["latent"]) == (hookpoint, latent):
            mine = [s for s in rows.of("scores")
                    if s["explanation"] == e["explanation"] and s["metric"] == "m"]  # fmt: skip
            for s in mine or [{}]:
                yield (
                    e["explanation"], e["explainer"], e["settings"], e["sample"], e["text"],
                    e["status"], e["reason"], e["detail"], e["reply_keys"], e["created_at"],
                    *(s.get(c) for c in ("scorer", "settings", "value", "ci_low", "ci_high")),
                    *(s.get(c) for c in ("null_value", "n", "n_failed", "status", "created_at")),
                )  # fmt: skip


def items(rows, hookpoint, latent, wanted):
    here = [s for s in rows.of("scores") if (s["hookpoint"], s["latent"]) == (hookpoint, latent)]
    made = {(s["explanation"], s["scorer"], s["settings"]) for s in of_last_settings(here)}
    columns = ("explanation", "scorer", "role", "item", "example", "stratum", "quantile")
    columns += ("explained_latent", "truth", "prediction", "probability", "value", "status")
    for j in rows.of("judgements"):
        if j["explanation"] in wanted and (j["explanation"], j["scorer"], j["settings"]) in made:
            yield (*(j[c] for c in columns), j["reason"], j["reply_keys"])


def failures(rows, hookpoint):
    mine = [j for j in rows.of("judgements") if j["hookpoint"] == hookpoint]
    for (scorer, role, status), found in grouped(mine, "scorer", "role", "status"):
        if status != "ok":
            reasons = [j["reason"] for j in found if j["reason"] is not None]
            yield scorer, role, status, min(reasons, default=None), len(found)


def comparable(found):
    def text(value):
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat()
        if isinstance(value, float | int):
            return f"{float(value):.9f}"
        return repr(value)

    return sorted(tuple(map(text, r)) for r in found)


def with_tokens(rows, draw):
    """Give latents the columns that the random rows leave empty."""
    for i, r in enumerate(rows.latents):
        tokens = [{"token_id": (i + k) % len(WORDS), "count": k, "pmi": 1.0} for k in range(i % 4)]
        r |= {"top_tokens": tokens or None, "max": draw(i), "n_activations": i}
    return rows


@settings(max_examples=8, deadline=None, derandomize=True, phases=(Phase.generate,))
@given(seed=st.integers(0, 2**30), latent=st.integers(0, N_LATENTS - 1))
def test_every_statement_says_what_plain_python_says(seed, latent):
    rows = with_tokens(Rows(seed), lambda i: i / 4)
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    for name in READ:
        con.register(name, pa.Table.from_pylist(getattr(rows, name), schema=TABLES[name].schema))
    spelled = [row("vocabulary", tokenizer="w", token_id=i, text=t) for i, t in enumerate(WORDS)]
    near = [
        row("neighbours", capture=c, hookpoint=h, latent=i, method=m, rank=r, neighbour=9 - r,
            similarity=1 / (1 + r))
        for c in (CAPTURE, "other") for h in HOOKPOINTS for i in range(2) for m in ("a", "b")
        for r in range(3)
    ]  # fmt: skip
    for name, found in (("vocabulary", spelled), ("neighbours", near)):
        con.register(name, pa.Table.from_pylist(found, schema=TABLES[name].schema))
    for macro in MACROS:
        queries.load(macro).run(con)
    sites = {"capture": CAPTURE, "hookpoints": list(HOOKPOINTS)}
    key = {"capture": CAPTURE, "hookpoint": "h1", "latent": latent}
    wanted = [e["explanation"] for e in rows.of("explanations")
              if (e["hookpoint"], e["latent"]) == ("h1", latent)]  # fmt: skip
    columns = list(queries.load("web/latent").columns)
    whole = list(queries.load("web/reply").columns)
    every = {
        "numbers": (
            {**sites, "metric": "m", "explainers": ["a", "b"], "scorers": ["x", "y"]}, numbers(rows)
        ),
        "texts": ({**sites, "tokenizer": "w", "n_tokens": 2}, texts(rows)),
        "latent": (key, [
            [r[c] for c in columns] for r in rows.of("latents")
            if (r["hookpoint"], r["latent"]) == ("h1", latent)
        ]),
        "neighbours": ({**key, "n_rows": 2}, [
            (r["method"], r["rank"], r["neighbour"], r["similarity"]) for r in near
            if r["capture"] == CAPTURE and r["hookpoint"] == "h1" and r["latent"] == latent
            and r["rank"] < 2
        ]),
        "items": ({**key, "explanations": wanted}, items(rows, "h1", latent, wanted)),
        "history": ({**key, "metric": "m"}, history(rows, "h1", latent)),
        "failures": ({"capture": CAPTURE, "hookpoint": "h0"}, failures(rows, "h0")),
        "reply": ({"key": "k3"}, [[r[c] for c in whole] for r in rows.replies if r["key"] == "k3"]),
    }  # fmt: skip
    for name, (values, expected) in every.items():
        found = as_records(queries.load(f"web/{name}").table(con, **values))
        assert comparable(r.values() for r in found) == comparable(expected), name


NOTHING = {
    "pair": 0, "first_place": 0, "last_place": 2**62, "statuses": [], "density_low": None,
    "density_high": None, "score_low": None, "score_high": None, "width_high": None,
    "p_high": None, "word_1": "", "word_2": "", "word_3": "", "word_4": "", "sort": "best",
    "sign": 1, "after_key": -math.inf, "after_turn": -(2**62), "n_rows": 1000,
}  # fmt: skip
FILTERS = [
    {},
    {"statuses": ["ok", "dead"]},
    {"density_low": 0.2, "density_high": 0.5},
    {"score_low": 0.3, "score_high": 0.9},
    {"width_high": 0.2},
    {"p_high": 0.1, "pair": 1},
    {"word_1": "CAT", "word_2": "tall"},
    {"first_place": PLACES, "last_place": 2 * PLACES - 1},
    {"word_1": "nowhere"},
]


@pytest.fixture(scope="module")
def shelf():
    """Tables of a shelf with ties, gaps and every kind of missing value; and their rows."""
    listed, texts = [], []
    for i in range(60):
        place = (i // 40) * PLACES + i % 40
        words = ["A cat", "tall"][: i % 3]
        texts.append(
            {"place": place, "said": [], "tokens": [], "haystack": "\n".join(words).lower()}
        )
        for pair in range(2):
            value = None if i % 7 == pair else (i * (pair + 3) % 11) / 10
            listed.append({
                "pair": pair, "place": place, "status": ("ok", "dead", "rare")[i % 3],
                "density": None if i % 9 == 0 else i / 60, "max": float(i % 5), "n_activations": i,
                "value": value, "ci_low": value and value - 0.1,
                "ci_high": value and value + i / 200,
                "n": 10, "n_failed": 0, "null_value": 0.5, "corrected": value and value - 0.5,
                "p_value": None if i % 4 else i / 100, "score_status": "ok" if value else None,
            })  # fmt: skip
    con = duckdb.connect()
    for name, rows in (("numbers", listed), ("texts", texts)):
        columns = ", ".join(f'"{c}" {t}' for c, t in queries.load(f"web/{name}").columns.items())
        con.execute(f"CREATE TABLE shelf_{name} ({columns})")
        found = pa.Table.from_pylist(rows)
        con.register("found", found)
        con.execute(f"INSERT INTO shelf_{name} BY NAME SELECT * FROM found")
    return con, listed, {t["place"]: t["haystack"] for t in texts}


def key_of(r, sort):
    def signed(value, sign=1):
        return math.inf if value is None else sign * value

    has_both = r["ci_low"] is not None and r["ci_high"] is not None
    return {
        "best": signed(r["value"], -1), "worst": signed(r["value"]), "low": signed(r["ci_low"], -1),
        "corrected": signed(r["corrected"], -1), "p": signed(r["p_value"]),
        "width": r["ci_high"] - r["ci_low"] if has_both else math.inf,
        "density": signed(r["density"], -1), "rare": signed(r["density"]),
        "max": signed(r["max"], -1), "number": 0.0,
    }[sort]  # fmt: skip


def passing(listed, haystacks, f):
    def within(value, low, high):
        given = low is not None or high is not None
        return not given or (value is not None and (low or 0) <= value <= (high or math.inf))

    for r in listed:
        has_both = r["ci_low"] is not None and r["ci_high"] is not None
        if (
            r["pair"] == f["pair"]
            and f["first_place"] <= r["place"] <= f["last_place"]
            and (not f["statuses"] or r["status"] in f["statuses"])
            and within(r["density"], f["density_low"], f["density_high"])
            and within(r["value"], f["score_low"], f["score_high"])
            and within(r["ci_high"] - r["ci_low"] if has_both else None, None, f["width_high"])
            and within(r["p_value"], None, f["p_high"])
            and all(f[f"word_{i}"].lower() in haystacks[r["place"]] for i in range(1, 5))
        ):
            yield r


ASKED = [*((sort, {}) for sort in SORTS), *(("width", filters) for filters in FILTERS[1:])]


@pytest.mark.parametrize(
    ("sort", "filters"), ASKED, ids=lambda v: v if isinstance(v, str) else ",".join(v)
)
def test_pages_of_a_list_follow_each_other_forwards_and_backwards(shelf, sort, filters):
    con, listed, haystacks = shelf
    asked = {**NOTHING, **filters, "sort": sort, "n_rows": 13}
    mine = sorted(
        passing(listed, haystacks, asked), key=lambda r: (key_of(r, sort), r["place"])
    )  # fmt: skip
    for sign in (1, -1):
        expected = mine[::sign]
        key, turn = (-math.inf, -(2**62))
        found = []
        while True:
            values = {**asked, "sign": sign, "after_key": key, "after_turn": turn}
            rows = queries.load("web/listing").table(con, **values).to_pylist()
            assert {r["n_matching"] for r in rows} == {len(mine)}
            assert {r["n_passed"] for r in rows} == {len(found)}
            rows = [r for r in rows if r["place"] is not None]
            found += rows
            if len(rows) < 13:
                break
            key, turn = rows[-1]["key"], sign * rows[-1]["place"]
        shown = [c for c in queries.load("web/listing").columns if c in listed[0]]
        assert comparable([r[c] for c in shown] for r in found) == comparable(
            [r[c] for c in shown] for r in expected
        )
        assert [r["place"] for r in found] == [r["place"] for r in expected]


def test_what_is_shown_of_latents_is_theirs_and_the_lowest_score_is_found(shelf):
    con, listed, _ = shelf
    rows = queries.load("web/shown").table(con, places=[3, PLACES + 1, 99]).to_pylist()
    assert rows == [{"place": p, "said": [], "tokens": []} for p in (3, PLACES + 1)]
    (found,) = queries.load("web/lowest").table(con).to_pylist()
    assert found == {"lowest": min(r["value"] for r in listed if r["value"] is not None)}
