"""Which explanations stand in for the null."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from lakeinterp.lake import queries
from lakeinterp.lake.schema import TABLES

N = 200


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as con:
        queries.load("macros/mix").run(con)
        place = {"capture": "c", "hookpoint": "h"}
        explanations, latents = [], []
        for latent in range(N):
            made = {"explainer": "pattern", "settings": "m", "sample": "x", "text": f"t{latent}"}
            status = "no_rule" if latent % 10 == 7 else "ok"
            explanations.append(
                {**place, **made, "latent": latent, "explanation": f"e{latent}", "status": status}
            )
            # Densities fall with a scrambled latent number.
            latents.append({**place, "latent": latent, "density": 0.9 ** ((latent * 77) % N)})
        for name, rows in (("explanations", explanations), ("latents", latents)):
            blank = dict.fromkeys(TABLES[name].columns)
            arrow = pa.Table.from_pylist(  # noqa: F841 - DuckDB reads it by name
                [{**blank, **row} for row in rows], schema=TABLES[name].schema
            )
            con.execute(f"CREATE TABLE {name} AS SELECT * FROM arrow")
        yield con


def borrowed(con, **changed):
    values = {
        "capture": "c",
        "hookpoint": "h",
        "explainer": "pattern",
        "settings": "m",
        "sample": "x",
        "latents": list(range(N)),
        "n": 4,
        "reach": 16,
        "share": 1.0,
        "seed": 22,
        **changed,
    }
    found: dict[int, list[int]] = {}
    for row in queries.load("score/borrowed").table(con, **values).to_pylist():
        assert row["explanation"] == f"e{row['explained_latent']}"
        found.setdefault(row["latent"], []).append(row["explained_latent"])
    return found


def test_every_explained_latent_borrows_from_others_of_like_density(con):
    found = borrowed(con)
    assert set(found) == {i for i in range(N) if i % 10 != 7}
    for latent, others in found.items():
        assert len(set(others)) == 4
        assert latent not in others
        assert all(other % 10 != 7 for other in others)
        # 16 places among explained latents are at most 18 among all.
        assert all(abs((latent * 77) % N - (other * 77) % N) <= 18 for other in others)


def test_the_choice_does_not_depend_on_which_latents_are_asked_for(con):
    whole, part = borrowed(con), borrowed(con, latents=[3, 50])
    assert part == {3: whole[3], 50: whole[50]}
    assert borrowed(con, seed=23) != whole


def test_a_share_of_the_latents_gets_a_null(con):
    assert borrowed(con, share=0.0) == {}
    half = borrowed(con, share=0.5)
    assert 60 < len(half) < 120
    assert half.items() <= borrowed(con).items()
