"""One lake for all that a process does with a configuration, as long as somebody holds it."""

from __future__ import annotations

import gc

from lakeinterp.config import load
from lakeinterp.lake import kept, open_lake


def test_what_is_kept_is_found_by_everybody_and_gone_with_the_block(tmp_path):
    config = load(values={"lake": str(tmp_path)})
    other = load(values={"lake": str(tmp_path / "other")})
    with kept(config):
        gc.collect()
        first = id(open_lake(config))
        gc.collect()
        assert id(open_lake(config)) == first
        assert open_lake(other) is not open_lake(config)
    lake = open_lake(config)
    lake.create("captures")
    lake.table("captures")
    assert "captures" in open_lake(config)._local.opened
    del lake
    gc.collect()
    assert not hasattr(open_lake(config)._local, "opened")
