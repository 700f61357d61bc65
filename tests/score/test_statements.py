"""The small statements that say what is explained, judged and paid for, worked out in Python."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lakeinterp.lake import queries
from lakeinterp.lake.schema import TABLES
from tests.report.random_rows import CAPTURE, TRANSIENT, Rows, first_of, place

CONNECTION = duckdb.connect()
HERE = {"capture": CAPTURE, "hookpoint": "h0"}
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def here(rows, table, **wanted):
    values = {**HERE, **wanted}
    return [r for r in getattr(rows, table) if all(r[k] == v for k, v in values.items())]


def answer(name, *columns, **values):
    found = queries.load(name).table(CONNECTION, **values)
    return [tuple(r.values()) for r in found.select(columns or found.column_names).to_pylist()]


@settings(max_examples=8, deadline=None, derandomize=True, phases=(Phase.generate,))
@given(
    seed=st.integers(0, 2**30),
    latents=st.lists(st.integers(0, 6), max_size=6),
    status=st.sampled_from(["", "ok", "timeout"]),
    n=st.integers(1, 9),
)
def test_small_statements_say_what_plain_python_says(seed, latents, status, n):
    rows = Rows(seed)
    for name in ("latents", "explanations", "scores", "judgements", "replies"):
        found = pa.Table.from_pylist(getattr(rows, name), schema=TABLES[name].schema)
        CONNECTION.register(name, found)
    queries.load("macros/newest_explanations").run(CONNECTION)
    check_explain(rows)
    check_score(rows, latents)
    check_replies(rows, status, n)


def check_explain(rows):
    told = [e for e in rows.explanations if e["status"] == "ok" and e["text"]]
    counted = Counter((e["capture"], e["explainer"]) for e in told)
    assert answer("explain/explainers") == sorted((*key, n) for key, n in counted.items())
    series = {"explainer": "a", "settings": "u1", "sample": "s1"}
    done = [e["explanation"] for e in here(rows, "explanations", **series)
            if e["status"] not in TRANSIENT]  # fmt: skip
    assert answer("explain/finished", **HERE, **series, transient=TRANSIENT) == [
        (name,) for name in sorted(done)
    ]
    standing = [e for e in rows.newest_explanations() if e["explainer"] == "a"]
    standing = [e for e in standing if e["status"] == "ok" and e["text"]]
    columns = ("hookpoint", "latent", "explanation", "text")
    held = answer("explain/held", capture=CAPTURE, explainer="a")
    assert held == sorted(tuple(e[c] for c in columns) for e in standing)
    density = {place(r): r["density"] for r in rows.of("latents")}
    other = [(density.get(place(e), 0), *(e[c] for c in columns[1:]), e["detail"])
             for e in standing if e["hookpoint"] == "h0"]  # fmt: skip
    assert answer("explain/others", **HERE, explainer="a") == [
        (*e[1:4], e[0], e[4]) for e in sorted(other)
    ]


def check_score(rows, latents):
    who = {"explainer": "a", "sample": "s1"}
    check_explanations(rows, latents, who)
    judge = {"scorer": "x", "settings": "t1"}
    items = defaultdict(list)
    for j in here(rows, "judgements", **judge):
        items[j["latent"], j["explanation"]].append(j)
    done = [key for key, js in items.items() if not {j["status"] for j in js} & set(TRANSIENT)]
    assert answer("score/judged", **HERE, **judge, transient=TRANSIENT) == sorted(done)
    found = answer("score/judged_latents", **HERE, **judge)
    assert found == [(i,) for i in sorted({latent for latent, _ in items})]
    check_failures(here(rows, "judgements", **judge))
    wanted = [e for e in here(rows, "explanations") if e["latent"] in latents]
    judged = {e for (_, e), js in items.items() if any(j["role"] == "own" for j in js)}
    scored = {s["explanation"]: s["status"] for s in here(rows, "scores", **judge, metric="m")}
    empty = []
    for e in wanted:
        status = "too_few_examples" if e["status"] == "ok" else e["status"]
        if e["explanation"] not in judged and scored.get(e["explanation"]) != status:
            empty.append((e["latent"], e["explanation"], "m", None, 0, status))
    names = [e["explanation"] for e in wanted]
    given_ = {"metric": "m", "explanations": names, "run": "r", "created_at": NOW}
    columns = ("latent", "explanation", "metric", "value", "n", "status")
    assert answer("score/unscored", *columns, **HERE, **judge, **given_) == sorted(empty)


def check_explanations(rows, latents, who):
    written = [e for e in rows.of("explanations") if all(e[k] == v for k, v in who.items())]
    mine = here(rows, "explanations", **who)
    for made in ("u1", "nobody's", None):
        by_latent = defaultdict(list)
        for e in written:
            by_latent[place(e)].append(e)
        counted = {e["hookpoint"]: [0, 0] for e in written}
        for (hookpoint, _), es in by_latent.items():
            ours, others = ([e for e in es if (e["settings"] == made) is is_ours]
                            for is_ours in (True, False))  # fmt: skip
            at, other_at = (max((e["created_at"] for e in part if e["created_at"]), default=None)
                            for part in (ours, others))  # fmt: skip
            counted[hookpoint][0] += bool(ours)
            counted[hookpoint][1] += bool(at and other_at and other_at > at)
        found = answer("score/explained", capture=CAPTURE, settings=made, **who)
        assert found == sorted((h, *n) for h, n in counted.items())
        meant = [e for e in mine if e["settings"] == made] or mine
        newest = first_of([e for e in meant if e["latent"] in latents], ("latent",), "explanation")
        columns = ("latent", "explanation", "settings", "text", "status")
        found = answer(
            "score/explanations", *columns, **HERE, **who, settings=made, latents=latents
        )
        assert found == sorted(tuple(e[c] for c in columns) for e in newest)


def check_failures(items):
    columns = ("latent", "explanation", "status")
    table = {c: [j[c] for j in items] for c in columns}
    table["has_failed"] = pa.array([j["status"] == "timeout" for j in items], pa.bool_())
    types = {"latent": pa.int32(), "explanation": pa.string(), "status": pa.string()}
    table |= {c: pa.array(table[c], kind) for c, kind in types.items()}
    CONNECTION.register("items", pa.table(table))
    failed = {(j["latent"], j["explanation"]) for j in items if j["status"] == "timeout"}
    assert answer("score/failures") == sorted((*key, "timeout") for key in failed)


def check_replies(rows, status, n):
    mine = [r for r in rows.replies if status in ("", r["status"])]
    kept = answer("replies/kept", "key", "status", status=status, route="", prefix="k1")
    assert kept == sorted((r["key"], r["status"]) for r in mine if r["key"].startswith("k1"))
    assert answer("replies/kept", status=status, route="elsewhere", prefix="") == []
    newest = sorted(mine, key=lambda r: r["key"])
    newest.sort(key=lambda r: r["created_at"] or datetime(1, 1, 1, tzinfo=UTC), reverse=True)
    listed = answer(
        "replies/listed", "key", "model", "tokens", "said", status=status, route="", n=n
    )
    assert listed == [
        (
            r["key"],
            r["model_served"] or r["model_requested"],
            r["prompt_tokens"] and r["prompt_tokens"] + r["completion_tokens"],
            (r["text"] or r["reason"] or "")[:200] or None,
        )
        for r in newest[:n]
    ]
