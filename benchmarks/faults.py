"""What goes wrong on purpose, how often, and whether the lake was right each time.

    python benchmarks/faults.py [--trials 20] [--only killed,forgotten] [--log faults.jsonl]

Captures a tiny model's activations, 16 shards, while something goes wrong at a moment that the
trial's seed decides, then runs the same command again. A trial is right if the lake ends with
exactly the rows and sequences of an undisturbed run, no row before that which that run does not
have, and every command that failed printed one line. With `--log` trials are kept, a later call
goes on with those that are missing, and the table is of all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from trials import ROWS, Trial, Truth, Wrong, kill, workers_of

from lakeinterp.lake import Lake, upkeep
from tests import tiny
from tests.capture import children

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

    Fault = Callable[["Trial"], str]

# -- faults -----------------------------------------------------------------------------------


def killed(trial: Trial) -> str:
    """SIGKILL at three random moments, the same command after each."""
    for _ in range(3):
        process, _ = trial.start()
        trial.wait_in(process, trial.truth.seconds)
        kill(process)
        trial.rows()
    trial.again()
    return "completed"


def one_of_two_workers_killed(trial: Trial) -> str:
    """SIGKILL of one of the two workers of `--devices cpu:2`."""
    started = trial.start(devices="cpu:2")
    assert started[0].pid is not None
    while len(found := workers_of(started[0].pid)) < 2 and started[0].is_alive():
        time.sleep(0.01)
    trial.wait_in(started[0], trial.truth.workers_s)
    try:
        os.kill(trial.random.choice(found), 9)
    except ProcessLookupError:
        return checked(trial, started, "was done before")
    return checked(trial, started, "the other one completed")


def checked(trial: Trial, started: tuple[BaseProcess, Path], how: str) -> str:
    """Wait for a command that must succeed and check the lake as it leaves it."""
    trial.finish(started)
    trial.check()
    return how


def command_of_two_workers_killed(trial: Trial) -> str:
    """SIGKILL of the command that started two workers; they end by themselves."""
    process, _ = trial.start(devices="cpu:2")
    trial.wait_in(process, trial.truth.workers_s)
    found = workers_of(process.pid or 0)
    kill(process)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in found):
        if time.monotonic() > deadline:
            raise Wrong("a worker goes on alone")
        time.sleep(0.05)
    trial.rows()
    trial.again()
    return "completed"


def two_processes_on_the_same_shards(trial: Trial) -> str:
    """Two processes with the same settings, neither disturbed."""
    first = trial.start()
    trial.wait(1)
    second = trial.start()
    trial.finish(first)
    trial.finish(second)
    trial.check()
    return "rows once"


def one_of_two_processes_killed(trial: Trial) -> str:
    """Two processes with the same settings, one killed: the other completes the lake."""
    first, second = trial.start(), trial.start()
    trial.wait_in(first[0], 2 * trial.truth.seconds)
    kill(first[0])
    trial.finish(second)
    trial.check()
    return "the other one completed"


def one_of_two_parts_killed(trial: Trial) -> str:
    """`--shards 1/2` and `2/2` side by side, one killed and run again."""
    parts = ["1/2", "2/2"]
    trial.random.shuffle(parts)
    lost, kept = (trial.start(shards=part) for part in parts)
    trial.wait_in(lost[0], 2 * trial.truth.seconds)
    kill(lost[0])
    trial.finish(kept)
    trial.rows()
    trial.finish(trial.start(shards=parts[0]))
    trial.check()
    return "completed"


def compaction_killed_beside(trial: Trial) -> str:
    """Compactions that start and are killed while a capture runs; vacuum at the end."""
    writer, n = trial.start(), 0
    while writer[0].is_alive():
        trial.wait(0.3)
        if not (trial.lake / "captures" / "_delta_log" / f"{1:020d}.json").exists():
            continue
        keeper, _ = trial.start("compact")
        trial.wait(0.8)
        kill(keeper)
        n += 1
    trial.finish(writer)
    trial.check()
    trial.finish(trial.start("compact"))
    upkeep.vacuum(Lake(str(trial.lake)), retention_hours=0)
    trial.check()
    return "completed" if n else "no compaction in time"


def forgotten(trial: Trial) -> str:
    """`forget` while a capture runs: it adds nothing afterwards, and can be made anew."""
    started, lake = trial.start(), Lake(str(trial.lake))
    while not lake.tables() or not upkeep.captures(lake):
        time.sleep(0.002)
    trial.wait_in(started[0], 0.5 * trial.truth.seconds)
    upkeep.forget(lake, "c")
    line = trial.finish(started, may_fail=True)
    if line and "was forgotten while it ran" not in line:
        raise Wrong(line)
    left = trial.rows()
    if left and (line or len(left) != len(trial.truth.rows)):
        raise Wrong("half a capture came back")
    trial.again()
    if line:
        return "stopped with one line"
    return "began after it" if left else "was done before"


def full_disk(trial: Trial) -> str:
    """A disk of 3 MB, filled up to a random point a few times, then with room again."""
    disk = trial.folder / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mounted, capture_output=True, check=False).returncode:
        return "not tried: only root can mount a file system"
    trial.lake, n_lines = disk / "lake", 0
    try:
        for _ in range(3):
            fill = disk / "fill"
            fill.write_bytes(b"")
            left = os.statvfs(disk)
            spare = 2**20 + trial.random.randrange(0, 300_000)
            fill.write_bytes(b"x" * max(0, left.f_bavail * left.f_frsize - spare))
            line = trial.finish(trial.start(), may_fail=True)
            if line and "the disk is full; free space, then run the same command" not in line:
                raise Wrong(line)
            n_lines += bool(line)
            fill.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        trial.again()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    return "one line, then completed" if n_lines else "fitted"


def torn_file(trial: Trial) -> str:
    """A file that the log names is cut off: one line names it, `forget` and capture mend it."""
    trial.finish(trial.start())
    lake = Lake(str(trial.lake))
    victim = Path(trial.random.choice(lake.files("activations")))
    victim.write_bytes(victim.read_bytes()[: trial.random.randrange(victim.stat().st_size)])
    line = trial.finish(trial.start("compact"), may_fail=True)
    if victim.name not in line:
        raise Wrong(f"the file is not named: {line}")
    upkeep.forget(lake, "c")
    trial.again()
    return "named, then captured anew"


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        killed, one_of_two_workers_killed, command_of_two_workers_killed,
        two_processes_on_the_same_shards, one_of_two_processes_killed, one_of_two_parts_killed,
        compaction_killed_beside, forgotten, full_disk, torn_file,
    )
}  # fmt: skip


# -- trials -----------------------------------------------------------------------------------


def main() -> int:
    """Run what is missing and print the table; return 1 if a trial was wrong."""
    arguments = parsed()
    log = Path(arguments.log) if arguments.log else None
    done = (
        [json.loads(line) for line in log.read_text().splitlines()] if log and log.exists() else []
    )
    with tempfile.TemporaryDirectory() as folder:
        wanted = [
            (name, seed)
            for name in arguments.only or FAULTS
            for seed in range(arguments.trials)
            if not any(d["fault"] == name and d["seed"] == seed for d in done)
        ][: arguments.at_most]
        truth = undisturbed(Path(folder)) if wanted else None
        for name, seed in wanted:
            assert truth is not None
            done.append(tried(name, seed, truth, Path(folder)))
            if log:
                with log.open("a") as out:
                    out.write(json.dumps(done[-1]) + "\n")
    print_table(done)
    return int(any(d["wrong"] for d in done))


def parsed() -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="of each fault; seeds 0, 1, …")
    parser.add_argument("--only", type=lambda text: text.split(","), default=None)
    parser.add_argument("--log", default=None, help="file that keeps the trials")
    parser.add_argument("--at-most", type=int, default=None, help="trials of this call")
    return parser.parse_args()


def undisturbed(folder: Path) -> Truth:
    """Capture once with nothing in the way, and measure how long it takes."""
    settings = tiny.settings(folder) | {
        "capture.shard_tokens": 512, "capture.batch_sequences": 1, "capture.name": "c"
    }  # fmt: skip
    seconds = []
    for name, more in (("warm", {}), ("whole", {}), ("two", {"capture.devices": "cpu:2"})):
        start = time.monotonic()
        if children.run("capture", settings | more, folder / name, folder / "said"):
            sys.exit((folder / "said").read_text())
        seconds.append(time.monotonic() - start)
    whole = Lake(str(folder / "whole"))
    rows = whole.sql(ROWS).fetchall()
    return Truth(settings, rows, whole.rows("sequences"), seconds[1], seconds[2])


def tried(name: str, seed: int, truth: Truth, folder: Path) -> dict[str, object]:
    """Run one trial and return how it ended."""
    place = folder / f"{name}-{seed}"
    place.mkdir()
    start, how, wrong = time.monotonic(), "", ""
    try:
        how = FAULTS[name](Trial(truth, place, seed))
    except Wrong as exc:
        wrong = str(exc)
    return {
        "fault": name, "seed": seed, "how": how, "wrong": wrong,
        "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip


def print_table(done: list[dict[str, object]]) -> None:
    """Print a line for each fault, and one for each trial that was wrong."""
    by_fault: dict[str, list[dict[str, object]]] = defaultdict(list)
    for trial in done:
        by_fault[str(trial["fault"])].append(trial)
    print("| fault | trials | right | how they ended |")
    print("|---|--:|--:|---|")
    for name in FAULTS:
        if not (trials := by_fault.get(name)):
            continue
        right = [trial for trial in trials if not trial["wrong"]]
        counts = Counter(str(trial["how"]) for trial in right)
        how = ", ".join(f"{n} {text}" for text, n in counts.most_common())
        about = " ".join((FAULTS[name].__doc__ or "").split()).rstrip(".")
        print(f"| {about} | {len(trials)} | {len(right)} | {how} |")
    for trial in done:
        if trial["wrong"]:
            print(f"WRONG: {trial['fault']} with seed {trial['seed']}: {trial['wrong']}")


if __name__ == "__main__":
    sys.exit(main())
