"""The statements of the report against the same worked out row by row in Python."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from datetime import UTC, datetime

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lakeinterp.lake import queries
from lakeinterp.lake.schema import TABLES
from tests.report.random_rows import (
    CAPTURE,
    HOOKPOINTS,
    N_LATENTS,
    TRANSIENT,
    WIDTH,
    Rows,
    first_of,
    grouped,
    of_last_settings,
    place,
)

# -- the statements ---------------------------------------------------------------------------


def costs(rows):
    standing = {e["explanation"]: e for e in rows.newest_explanations()}
    used = {
        (e["hookpoint"], e["explainer"], None, k)
        for e in standing.values()
        for k in e["reply_keys"]
    }
    for j in rows.of("judgements"):
        if e := standing.get(j["explanation"]):
            used |= {(e["hookpoint"], e["explainer"], j["scorer"], k) for k in j["reply_keys"]}
    replies = {r["key"]: r for r in rows.replies}
    found = defaultdict(list)
    for *who, key in used:
        if key in replies:
            found[tuple(who)].append(replies[key])
    for who, mine in found.items():
        states = Counter(r["cost_state"] for r in mine)
        yield (
            *who, len(mine), sum(r["status"] != "ok" for r in mine),
            states["priced"], states["free"], states["unknown"],
            sum(r["cost_usd"] or 0 for r in mine),
            sorted({r["model_served"] or r["model_requested"] for r in mine}),
        )  # fmt: skip


def explanation_counts(rows):
    for key, mine in grouped(rows.newest_explanations(), "hookpoint", "explainer", "status"):
        yield (*key, len(mine))


def explanations(rows, hookpoints, latents):
    wanted = set(zip(hookpoints, latents, strict=True))
    columns = ("hookpoint", "latent", "explanation", "explainer", "sample", "text", "status")
    for e in rows.newest_explanations():
        if place(e) in wanted:
            yield (*(e[c] for c in columns), e["reason"])


def examples(rows, hookpoints, latents, samples, per_section):
    wanted = set(zip(hookpoints, latents, samples, strict=True))
    mine = [e for e in rows.of("examples") if (*place(e), e["sample"]) in wanted]
    columns = ("hookpoint", "latent", "role", "stratum", "quantile")
    for key, section in grouped(mine, *columns):
        for e in sorted(section, key=lambda e: e["example"])[:per_section]:
            where, drawn = (key[0], key[1], e["example"]), (e["tokens"], e["values"], e["peak"])
            yield (*where, *key[2:], *drawn, len(section))


def hookpoints(rows):
    for h in rows.of("hookpoints"):
        n = [r["n_tokens"] for r in rows.of("latents") if r["hookpoint"] == h["hookpoint"]]
        columns = ("hookpoint", "architecture", "site", "d_in", "n_latents", "bucket_latents", "k")
        yield (*(h[c] for c in columns), h["l0"], h["explained_variance"], max(n, default=None))


def judged(rows, wanted):
    mine = [s for s in rows.of("scores") if s["explanation"] in wanted]
    made = {
        (s["explanation"], s["scorer"]): s["settings"]
        for s in first_of(mine, ("explanation", "scorer"), "settings")
    }
    shown = [
        j
        for j in rows.of("judgements")
        if made.get((j["explanation"], j["scorer"])) == j["settings"]
        and j["role"] == "own"
        and j["example"] is not None
        and j["status"] != "stopped_early"
    ]
    columns = ("hookpoint", "latent", "explanation", "scorer", "example")
    for key, items in grouped(shown, *columns):
        right = sum(j["status"] == "ok" and j["prediction"] == j["truth"] for j in items)
        failed = sum(j["status"] != "ok" or j["prediction"] is None for j in items)
        yield (*key, len(items), right, failed)


def listed(rows, metric):
    """Return latents with a value of a metric, and those explained without one."""
    scored = {place(s) for s in rows.newest_scores(metric) if s["value"] is not None}
    explained = {place(e) for e in rows.newest_explanations() if e["status"] == "ok"}
    return scored, explained - scored


def latents(rows, explainer, scorer, metric, scored, ascending, n_rows):
    counted = {place(r): r for r in rows.of("latents")}
    own = {place(e): e for e in rows.newest_explanations() if e["explainer"] == explainer}
    mine = {
        place(s): s
        for s in rows.newest_scores(metric)
        if (s["explainer"], s["scorer"]) == (explainer, scorer)
    }
    sign = 1 if ascending else -1

    def order(where):
        s = mine.get(where, {})
        keys = [s.get(name) for name in ("value", "ci_low")]
        return [math.inf if k is None else sign * k for k in keys], where

    for where in sorted(listed(rows, metric)[0 if scored else 1], key=order)[:n_rows]:
        r, e, s = (some.get(where, {}) for some in (counted, own, mine))
        yield (
            *where, r.get("n_windows"), r.get("density"), r.get("status"), e.get("explanation"),
            e.get("text"), *(s.get(c) for c in ("value", "ci_low", "n", "null_value")),
        )  # fmt: skip


LISTED = ("hookpoint", "latent", "n_windows", "density", "status", "explanation", "text", "value",
          "ci_low", "n", "null_value")  # fmt: skip


def listing_counts(rows, metric):
    scored, explained = listed(rows, metric)
    for name in HOOKPOINTS:
        n = [sum(h == name for h, _ in some) for some in (scored, explained)]
        yield name, N_LATENTS, *n, N_LATENTS - sum(n)


def metrics(rows):
    for key, mine in grouped(rows.newest_scores(), "metric", "explainer", "scorer"):
        yield (*key, len({place(s) for s in mine if s["value"] is not None}))


def sample_sizes(rows):
    mine = [e for e in rows.newest_explanations() if e["sample"] is not None]
    for (sample,), some in grouped(mine, "sample"):
        yield sample, len(some)


PAIR = ("hookpoint", "explainer", "scorer")


def with_value(rows, metric):
    return [s for s in rows.newest_scores(metric) if s["value"] is not None]


def score_by_density(rows, metric):
    density = {place(r): r["density"] for r in rows.of("latents") if r["density"]}
    mine = [s for s in with_value(rows, metric) if place(s) in density]
    for s in mine:
        s["step"] = math.floor(2 * math.log10(density[place(s)]) + 1e-9)
    for key, some in grouped(mine, *PAIR, "step"):
        values = [s["value"] for s in some]
        yield (*key, len(some), *np.quantile(values, [0.25, 0.5, 0.75]).tolist())


def score_histogram(rows, metric, low, high, n_bins):
    n = Counter()
    for s in with_value(rows, metric):
        for series, x in (("own", s["value"]), ("null", s["null_value"])):
            if x is not None:
                at = math.floor((x - low) / (high - low) * n_bins + 1e-9)
                n[(*(s[c] for c in PAIR), series, min(max(at, 0), n_bins - 1))] += 1
    return [(*key, count) for key, count in n.items()]


def score_values(rows, metric):
    for key, mine in grouped(with_value(rows, metric), *PAIR, "value"):
        yield (*key, len(mine))


def scores(rows, wanted):
    mine = [s for s in rows.of("scores") if s["explanation"] in wanted]
    columns = queries.load("report/scores").columns
    for s in of_last_settings(mine):
        yield tuple(s[c] for c in columns)


def status_captures(rows):
    n = Counter(s["corpus"] for s in rows.sequences)
    for c in rows.captures:
        asked = json.loads(c["config"])
        asked = asked.get("capture", asked)["n_tokens"]
        known = (c["capture"], c["created_at"], c["model"], c["coder"], c["corpus"])
        yield (*known, c["context_tokens"], asked, 2, 2 * N_LATENTS, n[c["corpus"]])


def status_counts(rows):
    n = Counter((r["hookpoint"], r["status"]) for r in rows.of("latents"))
    for name in HOOKPOINTS:
        n[name, "not sampled"] = N_LATENTS - sum(v for (h, _), v in n.items() if h == name)
    return [(*key, count) for key, count in n.items() if count]


def status_examples(rows):
    for key, mine in grouped(rows.examples, "capture", "sample"):
        active = [e["role"] for e in mine if e["stratum"] == "activating"]
        n = (active.count("explain"), active.count("score"), len(mine) - len(active))
        yield (*key, len(set(map(place, mine))), *n)


def status_explanations(rows):
    for key, mine in grouped(rows.explanations, "capture", "explainer", "status"):
        yield (*key, len(mine))


def status_judgements(rows):
    for key, mine in grouped(rows.judgements, "capture", "scorer", "role", "status"):
        yield (*key, len(mine))


def status_replies(rows):
    named = [{**r, "model": r["model_served"] or r["model_requested"]} for r in rows.replies]
    for key, mine in grouped(named, "model", "status", "cost_state"):
        columns = ("prompt_tokens", "completion_tokens", "cost_usd")
        yield (*key, len(mine), *(sum(r[c] or 0 for r in mine) for c in columns))


def status_latents(rows, current):
    for h in rows.hookpoints:
        capture, hookpoint = h["capture"], h["hookpoint"]
        sample = current[capture]

        def here(name, capture=capture, hookpoint=hookpoint):
            return [r for r in rows.of(name, capture) if r["hookpoint"] == hookpoint]

        def is_final(row):
            return row["status"] not in TRANSIENT

        n = Counter(r["status"] for r in here("latents"))
        sampled = {e["latent"] for e in here("examples")}
        present = {e["latent"] for e in here("examples") if sample in (None, e["sample"])}
        every = here("explanations")
        now = [e for e in every if sample in (None, e["sample"])]
        names, current_names = ({e["explanation"] for e in some} for some in (every, now))
        valued = [s for s in here("scores") if s["explanation"] in names]
        done = {s["latent"] for s in valued if s["explanation"] in current_names and is_final(s)}
        yield (
            capture, hookpoint, N_LATENTS, n.total(), n["ok"], n["rare"], n["dead"], n["dense"],
            len(sampled), len({e["latent"] for e in every if e["status"] == "ok"}),
            len({s["latent"] for s in valued if s["value"] is not None}),
            len(present - {e["latent"] for e in now if is_final(e)}),
            len({e["latent"] for e in now if e["status"] == "ok"} - done),
        )  # fmt: skip


def unexplained(rows, metric, n_listed, n_groups):
    settled = {place(e) for e in rows.newest_explanations() if e["status"] == "ok"}
    settled |= {place(s) for s in with_value(rows, metric)}
    failed = {place(e): e for e in first_of(
        rows.newest_explanations(), ("hookpoint", "latent"), "explainer"
    )}  # fmt: skip
    why = {
        "dead": ("dead", "never fires in the corpus"),
        "rare": ("rare", "fires in fewer windows than sampling.min_windows"),
    }
    groups = defaultdict(list)
    for r in rows.of("latents"):
        if place(r) in settled:
            continue
        e = failed.get(place(r))
        other = ("not explained", "not among the latents that were explained")
        state = (e["status"], e["reason"] or "") if e else why.get(r["status"], other)
        if e and e["reason"] is None:
            state = (e["status"], "")
        groups[r["hookpoint"], r["status"], e and e["explainer"], *state].append(r["latent"])
    ordered = sorted(
        groups.items(),
        key=lambda g: (-len(g[1]), g[0][0], g[0][1], g[0][3], g[0][4], g[0][2] or "~"),
    )
    left = sum(len(mine) for _, mine in ordered[n_groups:])
    for key, mine in ordered[:n_groups]:
        yield (*key, len(mine), sorted(mine)[:n_listed], left)


# -- the comparison ---------------------------------------------------------------------------

MACROS = ("macros/newest_explanations", "macros/newest_scores")
CONNECTION = duckdb.connect()
TABLES_READ = ("captures", "hookpoints", "sequences", "latents", "examples", "explanations",
               "scores", "judgements", "replies")  # fmt: skip


def moved_of(rows, hookpoints, latents):
    """Return the rows of `outputs` of these latents, each once."""
    wanted = set(zip(hookpoints, latents, strict=True))
    order = ("capture", "hookpoint", "latent", "raised", "lowered")
    return [
        {name: r[name] for name in order}
        for r in rows
        if r["capture"] == CAPTURE and (r["hookpoint"], r["latent"]) in wanted
    ]


def comparable(rows):
    def text(value):
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat()
        return f"{float(value):.9f}" if isinstance(value, (int, float)) else repr(value)

    return sorted(tuple(map(text, r)) for r in rows)


@settings(max_examples=8, deadline=None, derandomize=True, phases=(Phase.generate,))
@given(
    seed=st.integers(0, 2**30),
    some=st.lists(st.integers(0, 11), unique=True, max_size=9),
    n=st.integers(1, 9),
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_every_statement_says_what_plain_python_says(seed, some, n, flags):
    rows = Rows(seed)
    for name in TABLES_READ:
        found = pa.Table.from_pylist(getattr(rows, name), schema=TABLES[name].schema)
        CONNECTION.register(name, found)
    moved = [
        {"capture": c, "hookpoint": h, "latent": i, "lowered": [],
         "raised": [{"token_id": i, "text": f"{c}{h}{i}", "logit": 0.5}]}
        for c in (CAPTURE, "other") for h in HOOKPOINTS for i in range(0, N_LATENTS, 2)
    ]  # fmt: skip
    CONNECTION.register("outputs", pa.Table.from_pylist(moved, schema=TABLES["outputs"].schema))
    for macro in MACROS:
        queries.load(macro).run(CONNECTION)
    where = [HOOKPOINTS[i // N_LATENTS] for i in some], [i % N_LATENTS for i in some]
    samples = [("s1", "s2")[i % 2] for i in some]
    wanted = [e["explanation"] for i, e in enumerate(rows.of("explanations")) if i % 12 in some]
    pair = {"explainer": "a", "scorer": "x", "metric": "m"}
    one, metric = {"capture": CAPTURE}, {"capture": CAPTURE, "metric": "m"}
    listing = {"scored": flags[0], "ascending": flags[1], "n_rows": n}
    bins = {"low": 0.125, "high": 0.9375, "n_bins": n}
    current = {CAPTURE: "s1" if flags[0] else None, "other": "s2"}
    every = {
        "costs": (one, costs(rows)),
        "examples": (
            {**one, "hookpoints": where[0], "latents": where[1], "samples": samples,
             "buckets": [i // WIDTH for i in where[1]], "per_section": n},
            examples(rows, *where, samples, n),
        ),
        "explanation_counts": (one, explanation_counts(rows)),
        "explanations": (
            {**one, "hookpoints": where[0], "latents": where[1]}, explanations(rows, *where)
        ),
        "hookpoints": (one, hookpoints(rows)),
        "judged": ({**one, "explanations": wanted}, judged(rows, wanted)),
        "latents": ({**one, **pair, **listing}, latents(rows, **pair, **listing)),
        "listing_counts": (metric, listing_counts(rows, "m")),
        "metrics": (one, metrics(rows)),
        "outputs": (
            {**one, "hookpoints": where[0], "latents": where[1]},
            [list(r.values())[1:] for r in moved_of(moved, *where)],
        ),
        "sample_sizes": (one, sample_sizes(rows)),
        "score_by_density": (metric, score_by_density(rows, "m")),
        "score_histogram": ({**metric, **bins}, score_histogram(rows, "m", **bins)),
        "score_values": (metric, score_values(rows, "m")),
        "scores": ({**one, "explanations": wanted}, scores(rows, wanted)),
        "status_captures": ({}, status_captures(rows)),
        "status_counts": (one, status_counts(rows)),
        "status_examples": ({}, status_examples(rows)),
        "status_explanations": ({}, status_explanations(rows)),
        "status_judgements": ({}, status_judgements(rows)),
        "status_latents": (
            {"captures": list(current), "current": list(current.values()), "transient": TRANSIENT},
            status_latents(rows, current),
        ),
        "status_replies": ({}, status_replies(rows)),
        "unexplained": (
            {**metric, "n_listed": 2, "n_groups": n}, unexplained(rows, "m", 2, n)
        ),
    }  # fmt: skip
    for name, (values, expected) in every.items():
        found = queries.load(f"report/{name}").table(CONNECTION, **values)
        found = found.select(LISTED) if name == "latents" else found
        answer = [tuple(r.values()) for r in found.to_pylist()]
        answered, worked_out = comparable(answer), comparable(expected)
        assert answered == worked_out, name
        if name == "latents":
            assert [r[:2] for r in answer] == [r[:2] for r in latents(rows, **pair, **listing)]
