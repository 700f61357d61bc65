"""The cook-book's questions: plain Python, lakeinterp, DuckDB and Polars give one answer."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from statistics import mean, median

import duckdb
import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from lakeinterp import cli
from lakeinterp.lake import Lake, queries
from tests.lakes import row

QUESTIONS = queries.names("report/cookbook")
CAPTURES, HOOKPOINTS, LATENTS = ("a", "b"), ("h0", "h1"), range(5)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FAILED = ("parse_failed", "timeout")
KEYS = [f"k{i}" for i in range(9)]


def made(seed):
    """Random rows of every table that a question reads, with ties, NULLs and failures."""
    rng = np.random.default_rng(seed)

    def pick(*values):
        return values[int(rng.integers(len(values)))]

    def some(n):
        return [KEYS[i] for i in rng.choice(len(KEYS), int(rng.integers(n + 1)), replace=False)]

    def when():
        return NOW - timedelta(days=int(rng.integers(20)), seconds=int(rng.integers(9999)))

    rows = defaultdict(list)
    for i in range(6):
        rows["vocabulary"].append(
            row("vocabulary", tokenizer="t", token_id=i, text=f"w{i}", bytes=b"", special=False)
        )
    for capture in CAPTURES:
        rows["captures"].append(
            row(
                "captures", capture=capture, tokenizer="t", coder="c", context_tokens=16,
                created_at=NOW,
            )
        )  # fmt: skip
        for hookpoint in HOOKPOINTS:
            unit = {"capture": capture, "hookpoint": hookpoint}
            for latent in LATENTS:
                of = {**unit, "latent": latent}
                rows["latents"].append(_latent(of, pick, rng))
                for token in rng.choice(400, int(rng.integers(300)), replace=False):
                    value = pick(0.5, 1.0, 2.5)
                    rows["activations"].append(
                        row("activations", **of, bucket=0, token=int(token), value=value)
                    )
                for number in range(int(rng.integers(5))):
                    name, status = f"{latent}-{number}", pick("ok", "ok", "ok", *FAILED)
                    explained = row(
                        "explanations", **of, explanation=name, explainer=pick("x", "y"),
                        text=pick("one", "two") if status == "ok" else None, status=status,
                        reason=pick(None, "why"), reply_keys=some(2), created_at=when(),
                    )  # fmt: skip
                    rows["explanations"].append(explained)
                    _judged(rows, {**of, "explanation": name}, pick, some, when)
    for key in KEYS[:7]:
        state = pick("priced", "unknown", "free")
        rows["replies"].append(
            row(
                "replies", key=key, status=pick("ok", "timeout"), model_requested="asked",
                model_served=pick(None, "served"), route=pick("judge", "explainer"),
                cost_state=state, cost_usd=pick(0.25, 1.5) if state == "priced" else None,
                prompt_tokens=pick(None, 10), completion_tokens=pick(3, 4),
                latency_s=pick(0.5, 1.0, 4.0), attempts=pick(1, 2), created_at=NOW,
            )
        )  # fmt: skip
    return rows


def _latent(of, pick, rng):
    n = pick(0, 5, 30, 30, 60)
    counts = sorted((int(c) for c in rng.integers(1, 9, 3)), reverse=True)
    return row(
        "latents", **of, n_activations=n, n_tokens=400, density=n / 400,
        max=4.0 * pick(1, 2) if n else None, mean=pick(0.5, 2.0) if n else None,
        single_token=pick(0.3, 0.9, 0.95) if n else None,
        special_share=pick(0.0, 0.2) if n else None, first_share=pick(0.1, 0.6) if n else None,
        position_bias=pick(0.1, 0.7) if n else None, status=pick("ok", "rare"),
        top_tokens=[{"token_id": int(t), "count": c, "pmi": 0.0}
                    for t, c in zip(rng.permutation(6), counts, strict=False)] if n else [],
    )  # fmt: skip


def _judged(rows, of, pick, some, when):
    for scorer in ("u", "v"):
        for settings in ("s1", "s2"):
            value = pick(None, 0.5, 0.55, 0.8)
            rows["scores"].append(
                row(
                    "scores", **of, scorer=scorer, settings=settings, metric="balanced_accuracy",
                    value=value, ci_low=None if value is None else value - pick(0.05, 0.1),
                    corrected=pick(0.1, 0.2), p_value=pick(None, 0.01, 0.5), created_at=when(),
                )
            )  # fmt: skip
        for item in range(4):
            asked = {**of, "scorer": scorer, "settings": "s1"}
            for role, number in (("own", item), ("borrowed", 10 + item), ("repeat", -1 - item)):
                status = pick("ok", "ok", "ok", *FAILED)
                rows["judgements"].append(
                    row(
                        "judgements", **asked, role=role, item=number, truth=item < 2,
                        quantile=item + 1 if item < 2 else None,
                        stratum="activating" if item < 2 else pick("random", "similar"),
                        prediction=pick(True, False) if status == "ok" else None, status=status,
                        reason=pick(None, "why"), reply_keys=some(2),
                    )
                )  # fmt: skip


def newest(rows):
    """The newest explanation of each latent and explainer."""
    found = {}
    for e in sorted(rows["explanations"], key=lambda e: e["explanation"]):
        key = (*_place(e), e["explainer"])
        if key not in found or e["created_at"] > found[key]["created_at"]:
            found[key] = e
    return list(found.values())


def standing(rows):
    """The newest score with a value of each explanation and scorer, with its explainer if any."""
    found, explainers = {}, {(*_place(e), e["explanation"]): e for e in newest(rows)}
    for s in sorted(rows["scores"], key=lambda s: s["settings"]):
        key = (*_place(s), s["explanation"], s["scorer"])
        if s["value"] is not None and (
            key not in found or s["created_at"] > found[key]["created_at"]
        ):
            found[key] = {**s, "of": explainers.get((*_place(s), s["explanation"]))}
    return list(found.values())


def _place(r):
    return (r["capture"], r["hookpoint"], r["latent"])


def _unit(r):
    return (r["capture"], r["hookpoint"])


def _grouped(rows, key):
    found = defaultdict(list)
    for r in rows:
        found[key(r)].append(r)
    return found.items()


def densest_latents(rows):
    active = [r for r in rows["latents"] if r["density"] > 0]
    active.sort(key=lambda r: (-r["density"], *_place(r)))
    return [(*_place(r), r["density"], r["mean"], r["single_token"], r["status"]) for r in active][
        :20
    ]


def latents_by_status(rows):
    n = Counter((*_unit(r), r["status"]) for r in rows["latents"])
    found = [(*key, count, count / len(LATENTS)) for key, count in n.items()]
    return sorted(found, key=lambda r: (r[0], r[1], -r[3], r[2]))


def _top(latent):
    return min(latent["top_tokens"], key=lambda t: (-t["count"], t["token_id"]))["token_id"]


def single_token_latents(rows):
    found = [r for r in rows["latents"] if (r["single_token"] or 0) >= 0.9]
    found = [r for r in found if r["n_activations"] >= 20]
    found.sort(key=lambda r: (-r["n_activations"], *_place(r)))
    return [(*_place(r), f"w{_top(r)}", r["single_token"], r["n_activations"]) for r in found]


def tokens_with_most_latents(rows):
    active = [r for r in rows["latents"] if r["n_activations"]]
    found = [
        (*unit, token, f"w{token}", len(group), sum(r["single_token"] >= 0.9 for r in group))
        for (*unit, token), group in _grouped(active, lambda r: (*_unit(r), _top(r)))
    ]
    return sorted(found, key=lambda r: (-r[4], r[:3]))


def busiest_tokens(rows):
    found = [
        (*key, key[2] // 16, key[2] % 16, len(group), max(r["value"] for r in group))
        for key, group in _grouped(rows["activations"], lambda r: (*_unit(r), r["token"]))
    ]
    return sorted(found, key=lambda r: (-r[5], -r[6], r[:3]))[:20]


def cofiring_pairs(rows):
    places = defaultdict(set)
    for r in rows["activations"]:
        if r["token"] % 16 == 0:
            places[_place(r)].add(r["token"])
    found = []
    for one, mine in places.items():
        for other, theirs in places.items():
            if one[:2] == other[:2] and one < other and len(mine & theirs) >= 5:
                n, share = len(mine & theirs), len(mine & theirs) / len(mine | theirs)
                found.append((*one, other[2], n, len(mine), len(theirs), share))
    return sorted(found, key=lambda r: (-r[7], -r[4], r[:4]))[:50]


def latents_that_differ(rows):
    by_key = {_place(r): r for r in rows["latents"]}
    found = []
    for hookpoint in HOOKPOINTS:
        for latent in LATENTS:
            a, b = (by_key[capture, hookpoint, latent] for capture in CAPTURES)
            ratio = math.log2((b["n_activations"] + 0.5) / (a["n_activations"] + 0.5))
            found.append((hookpoint, latent, *CAPTURES, a["density"], b["density"], ratio))
    return sorted(found, key=lambda r: (-abs(r[6]), r[:2]))


def _listed(rows, is_meant, *columns, order):
    found = sorted(filter(is_meant, rows["latents"]), key=lambda r: (*order(r), *_place(r)))
    return [(*_place(r), *(r[c] for c in columns)) for r in found]


def positional_latents(rows):
    return _listed(
        rows,
        lambda r: r["n_activations"] >= 20
        and (r["first_share"] >= 0.5 or r["position_bias"] >= 0.5),
        "first_share", "position_bias", "n_activations",
        order=lambda r: (-r["first_share"], -r["position_bias"]),
    )  # fmt: skip


def latents_at_special_tokens(rows):
    return _listed(
        rows,
        lambda r: (r["special_share"] or 0) > 0.1,
        "special_share", "density",
        order=lambda r: (-r["special_share"], -r["density"]),
    )  # fmt: skip


def spiky_latents(rows):
    found = [(r, r["max"] / r["mean"]) for r in rows["latents"] if r["n_activations"] >= 20]
    found.sort(key=lambda f: (-f[1], *_place(f[0])))
    return [(*_place(r), x, r["max"], r["mean"], r["n_activations"]) for r, x in found[:20]]


def latents_without_explanation(rows):
    tried = {}
    for e in sorted(rows["explanations"], key=lambda e: e["explanation"]):
        old, place = tried.get(_place(e)), _place(e)
        rank = (e["status"] == "ok", e["created_at"])
        if old is None or rank > (old["status"] == "ok", old["created_at"]):
            tried[place] = e
    found = []
    for r in rows["latents"]:
        e = tried.get(_place(r))
        if r["n_activations"] and (e is None or e["status"] != "ok"):
            why = e and (e["reason"] or e["status"])
            found.append((*_place(r), r["density"], r["status"], why))
    return sorted(found, key=lambda r: (-r[3], r[:3]))


def explanations_in_common(rows):
    said = [e for e in newest(rows) if e["text"]]
    found = []
    for key, group in _grouped(said, lambda e: (*_unit(e), e["explainer"], e["text"])):
        latents = [e["latent"] for e in group]
        if len(latents) > 1:
            found.append((*key, len(latents), min(latents), max(latents)))
    return sorted(found, key=lambda r: (-r[4], r[:4]))


def best_explanations(rows):
    found = [
        (*_place(s), s["of"]["explainer"], s["scorer"], s["of"]["text"], s["value"], s["ci_low"],
         s["corrected"])
        for s in standing(rows) if s["of"]
    ]  # fmt: skip
    return sorted(found, key=lambda r: (-r[7], -r[6], r[:5]))[:20]


def active_latents_badly_explained(rows):
    latents = {_place(r): r for r in rows["latents"]}
    found = []
    for place, group in _grouped(standing(rows), _place):
        low, r = max(s["ci_low"] for s in group), latents[place]
        if low < 0.6:
            mass = None if r["mean"] is None else r["density"] * r["mean"]
            found.append((*place, mass, low, max(s["value"] for s in group)))
    return sorted(found, key=lambda r: (r[3] is None, -(r[3] or 0), r[:3]))


def better_than_others_explanations(rows):
    known = [s for s in standing(rows) if s["of"] and s["p_value"] is not None]
    return sorted(
        (*key, len(group), mean(s["p_value"] <= 0.05 for s in group),
         mean(s["corrected"] for s in group))
        for key, group in _grouped(
            known, lambda s: (*_unit(s), s["of"]["explainer"], s["scorer"])
        )
    )  # fmt: skip


def scorers_that_disagree(rows):
    by_key = {(*_place(s), s["explanation"], s["scorer"]): s["value"] for s in standing(rows)}
    found = [
        (*key, "u", "v", by_key[*key, "u"], by_key[*key, "v"])
        for *key, scorer in by_key if scorer == "u" and (*key, "v") in by_key
    ]  # fmt: skip
    found.sort(key=lambda r: (-abs(r[6] - r[7]), r[0], r[1], r[3]))
    return found[:50]


def score_drift_since_last_week(rows):
    explainers = {(*_unit(e), e["explanation"]): e["explainer"] for e in rows["explanations"]}
    known = [s for s in rows["scores"] if s["value"] is not None]
    last, found = max(s["created_at"] for s in known), {}
    for s in sorted(known, key=lambda s: (s["explanation"], s["settings"])):
        is_new = last - s["created_at"] <= timedelta(days=7)
        key = (*_place(s), explainers[*_unit(s), s["explanation"]], s["scorer"])
        old = found.setdefault(key, {}).get(is_new)
        if old is None or s["created_at"] > old["created_at"]:
            found[key][is_new] = s
    moved = [
        (*key, two[False]["value"], two[True]["value"], two[True]["value"] - two[False]["value"])
        for key, two in found.items() if len(two) == 2
    ]  # fmt: skip
    return sorted(moved, key=lambda r: (-abs(r[7]), r[:5]))[:50]


def _said(rows, *roles):
    return [j for j in rows["judgements"] if j["role"] in roles and j["status"] == "ok"]


def judge_disagreement(rows):
    again = {(*_place(j), j["explanation"], j["scorer"], -1 - j["item"]): j["prediction"]
             for j in _said(rows, "repeat")}  # fmt: skip
    pairs = defaultdict(list)
    for j in _said(rows, "own"):
        key = (*_place(j), j["explanation"], j["scorer"], j["item"])
        if key in again:
            pairs[*_unit(j), j["scorer"]].append(j["prediction"] != again[key])
    return sorted((*key, len(p), sum(p), mean(p)) for key, p in pairs.items())


def recall_by_quantile(rows):
    asked = [j for j in _said(rows, "own") if j["truth"]]
    groups = _grouped(asked, lambda j: (*_unit(j), j["scorer"], j["quantile"]))
    return sorted((*key, len(g), mean(j["prediction"] for j in g)) for key, g in groups)


def false_alarms_by_stratum(rows):
    asked = [j for j in _said(rows, "own", "borrowed") if not j["truth"]]
    groups = _grouped(asked, lambda j: (*_unit(j), j["scorer"], j["stratum"], j["role"]))
    found = [(*key, len(g), mean(j["prediction"] for j in g)) for key, g in groups]
    return sorted(found, key=lambda r: (r[:4], r[4] == "borrowed"))


def failures(rows):
    all_rows = [(r, "explain") for r in rows["explanations"]]
    all_rows += [(r, r["scorer"]) for r in rows["judgements"]]
    failed = [(r, step) for r, step in all_rows if r["status"] in FAILED]
    found = []
    for key, group in _grouped(failed, lambda f: (*_unit(f[0]), f[1], f[0]["status"])):
        reasons = [r["reason"] for r, _ in group if r["reason"]]
        found.append((*key, len(group), min(reasons, default=None)))
    return sorted(found, key=lambda r: (-r[4], r[:4]))


def cost_by_hookpoint(rows):
    used = {(*_unit(r), "explain", k) for r in rows["explanations"] for k in r["reply_keys"]}
    used |= {(*_unit(r), r["scorer"], k) for r in rows["judgements"] for k in r["reply_keys"]}
    replies = {r["key"]: r for r in rows["replies"]}
    found = []
    for key, group in _grouped([u for u in used if u[3] in replies], lambda u: u[:3]):
        mine = [replies[u[3]] for u in group]
        tokens = sum((r["prompt_tokens"] or 0) + (r["completion_tokens"] or 0) for r in mine)
        n_unknown = sum(r["cost_state"] == "unknown" for r in mine)
        found.append((*key, len(mine), n_unknown, tokens, sum(r["cost_usd"] or 0 for r in mine)))
    return sorted(found, key=lambda r: (-r[6], r[:3]))


def slow_routes(rows):
    groups = _grouped(
        rows["replies"], lambda r: (r["route"], r["model_served"] or r["model_requested"])
    )
    found = [
        (*key, len(g), sum(r["status"] != "ok" for r in g), median(r["latency_s"] for r in g),
         mean(r["attempts"] for r in g))
        for key, g in groups
    ]  # fmt: skip
    return sorted(found, key=lambda r: (-r[4], r[:2]))


@pytest.fixture(scope="module", params=[1, 2, 3])
def lake(request, tmp_path_factory):
    lake = Lake(str(tmp_path_factory.mktemp("cookbook")))
    rows = made(request.param)
    for table, found in rows.items():
        lake.upsert(table, found, scope={})
    return lake, rows, by_polars(lake.root, rows)


def plain(rows):
    return [tuple(round(v, 6) if isinstance(v, float) else v for v in r) for r in rows]


def test_there_are_twenty_questions_and_more():
    assert len(QUESTIONS) >= 20
    assert all("?" in queries.load(name).about for name in QUESTIONS)


@pytest.mark.parametrize("name", QUESTIONS)
def test_plain_python_lakeinterp_duckdb_and_polars_give_one_answer(lake, name):
    lake, rows, of_polars = lake
    query = queries.load(name)
    expected = plain(globals()[name.split("/")[-1]](rows))
    assert plain(lake.sql(query.sql).fetchall()) == expected
    assert plain(by_duckdb(lake.root, rows, query.sql)) == expected
    assert plain(of_polars[name]) == expected


def by_duckdb(root, tables, sql):
    with duckdb.connect() as con:
        for table in tables:
            files = DeltaTable(f"{root}/{table}").file_uris()
            con.execute(
                f"CREATE VIEW {table} AS "
                f"SELECT * FROM read_parquet({files!r}, hive_partitioning = true)"
            )
        return con.execute(sql).fetchall()


POLARS = """
import json, sys
import polars as pl

root, tables, statements = json.load(sys.stdin)
context = pl.SQLContext({table: pl.scan_delta(f"{root}/{table}") for table in tables})
print(json.dumps({name: context.execute(sql).collect().rows() for name, sql in statements.items()}))
"""


def by_polars(root, tables):
    """Every question's rows; Polars has threads of its own, and here a process of its own."""
    statements = {name: queries.load(name).sql for name in QUESTIONS}
    told = json.dumps([root, list(tables), statements])
    done = subprocess.run(
        [sys.executable, "-c", POLARS], input=told, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_question_is_asked_from_the_command_line(lake, capsys, tmp_path):
    lake, rows, _ = lake
    file = queries.ROOT / "report/cookbook/densest_latents.sql"
    answer = tmp_path / "answer.csv"
    arguments = ["sql", "--lake", lake.root, "--file", str(file), "--output", str(answer)]
    assert cli.run(arguments) == 0
    assert f"{len(densest_latents(rows))} rows" in capsys.readouterr().err
    assert len(pl.read_csv(answer)) == len(densest_latents(rows))
