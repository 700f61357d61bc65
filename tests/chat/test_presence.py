"""A holder is there for as long as its process: whatever its number, however it ends."""

import os
import subprocess
import sys
import time

from lakeinterp.chat import presence
from lakeinterp.chat.presence import Presence

HOLDER = (
    "import sys; from pathlib import Path; from lakeinterp.chat.presence import Presence;"
    "print(Presence(Path(sys.argv[1])).name, flush=True); sys.stdin.read()"
)


def test_holder_is_there_until_its_process_is_killed(tmp_path):
    here = Presence(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as child:
        name = child.stdout.readline().decode().strip()
        assert here.is_alive(name)
        child.kill()
        child.wait()
        assert not here.is_alive(name)
    assert not here.is_alive(name)
    here.close()
    assert [path.name for path in (tmp_path / "running").iterdir()] == []


def test_holders_of_one_process_are_told_apart_and_seen_by_each_other(tmp_path):
    one, other = Presence(tmp_path), Presence(tmp_path)
    assert one.name != other.name
    assert str(os.getpid()) in one.name
    assert one.is_alive(one.name)
    assert one.is_alive(other.name)
    assert other.is_alive(one.name)
    other.close()
    assert not one.is_alive(other.name)
    one.close()


def test_names_of_earlier_versions_and_of_nobody_are_dead(tmp_path):
    here = Presence(tmp_path)
    assert not here.is_alive(f"{os.getpid()}@123")
    assert not here.is_alive("elsewhere-1-00000000")
    here.close()


def test_what_killed_holders_left_is_removed_after_a_while_and_the_living_stay(tmp_path):
    left = tmp_path / "running" / "elsewhere-1-00000000"
    living = Presence(tmp_path)
    left.touch()
    long_ago = time.time() - presence._OLD_S - 1
    os.utime(tmp_path / "running" / living.name, (long_ago, long_ago))
    Presence(tmp_path).close()
    assert left.exists()
    os.utime(left, (long_ago, long_ago))
    third = Presence(tmp_path)
    assert not left.exists()
    assert third.is_alive(living.name)
    living.close()
    third.close()
