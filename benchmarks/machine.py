"""What a figure is worth: the machine it was measured on, and how fast that machine was at that moment.

The unit of comparison between two runs is the *loop*: a fixed piece of pure Python whose CPU time is taken while the
measurement goes on. A machine whose neighbours are busy runs the loop slower, and everything else with it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

LOOP_ROUNDS = 60_000
_EVERY_S = 0.5


def loop_ms() -> float:
    """CPU milliseconds of the fixed loop, once."""
    began = time.thread_time()
    table: dict[int, int] = {}
    for number in range(LOOP_ROUNDS):
        key = number & 1023
        table[key] = (table.get(key, 0) + number * 7) & 0xFFFF
    return (time.thread_time() - began) * 1000


class Calibration:
    """Runs the loop now and then while something is measured. `with Calibration() as speed: …; speed.loop_ms`."""

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="calibration", daemon=True)

    def __enter__(self) -> Calibration:
        self._samples.append(loop_ms())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def loop_ms(self) -> float:
        """The median so far."""
        return median(self._samples)

    def _sample(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._samples.append(loop_ms())


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and on what a run took place."""

    cpu: str
    cores: int
    memory_mb: int
    kernel: str
    python: str
    load_before: tuple[float, float, float]
    loop_idle_ms: float  # the fastest of several: what the loop takes undisturbed, as far as it was
    commit: str
    versions: dict[str, str]  # of the programs that take part


def read_machine(root: Path) -> Machine:
    """The facts, read now. `root`: the repository."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        kernel=platform.release(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        load_before=os.getloadavg(),
        loop_idle_ms=min(loop_ms() for _ in range(10)),
        commit=_commit(root),
        versions={name: _first_line(name, *rest) for name, *rest in (("sipp", "-v"), ("redis-server", "--version"))},
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model", "CPU part")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit(root: Path) -> str:
    """The commit, marked where the tree has changed since."""
    commit = _first_line("git", "-C", str(root), "rev-parse", "--short", "HEAD")
    if not commit or "fatal" in commit:
        return "none yet"
    return commit + ("+changes" if _first_line("git", "-C", str(root), "status", "--porcelain") else "")


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "not found"
    said = [line.strip() for line in (done.stdout or done.stderr).splitlines() if line.strip()]
    return said[0] if said else ""
