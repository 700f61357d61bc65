"""Commands that read a lake need the package's own dependencies and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.planted import HOOKPOINT

ROOT = Path(__file__).parents[2]
BLOCKED = """
import sys, tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

with open("pyproject.toml", "rb") as file:
    todo = [Requirement(line) for line in tomllib.load(file)["project"]["dependencies"]]
kept = set()
while todo:
    name, extras = canonicalize_name(todo[-1].name), {"", *todo.pop().extras}
    if name not in kept:
        kept.add(name)
        try:
            listed = map(Requirement, requires(name) or ())
        except PackageNotFoundError:
            continue
        todo += [r for r in listed if not r.marker or any(
            r.marker.evaluate({"extra": extra}) for extra in extras)]
owners = packages_distributions()

class Finder:
    def find_spec(self, name, path=None, target=None):
        mine = {canonicalize_name(one) for one in owners.get(name, ())}
        if path is None and mine and not mine & {*kept, "lakeinterp"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in {name.partition(".")[0] for name in sys.modules} & {"packaging"}:
    del sys.modules[name]
sys.meta_path.insert(0, Finder())
from lakeinterp import cli
for line in sys.argv[2:]:
    if cli.run([*line.split("|"), "--lake", sys.argv[1]]):
        sys.exit(line)
"""
COMMANDS = (
    "status",
    "sql|SELECT * FROM captures",
    "sql|--file|sql/report/cookbook/best_explanations.sql",
    f"examples|{HOOKPOINT}|0|-n|1",
    "drift",
    "report|--tables|{folder}/tables|--output|{folder}/report.html",
    "export|csv|{folder}/out",
)


@pytest.mark.slow
def test_a_lake_is_read_with_the_packages_own_dependencies_alone(lake, tmp_path):
    pytest.importorskip("packaging")
    lines = [line.format(folder=tmp_path) for line in COMMANDS]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, lake.root, *lines],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (0, [])
