"""Where the time goes: py-spy looks at the signalling process while it works, and its stacks become two small tables.

A sample counts for the deepest frame of ours in its stack (what a library or the kernel does for a function is that
function's), and once for every function in the stack, for the column that includes what it calls. The samples are of
wall-clock time: where others want the cores too, a call of the kernel that wakes one of them looks dearer than it is.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchmarkError, Process

SAMPLES_PER_S = 250
_FRAME = re.compile(r"^(?P<function>.+?) \((?P<file>[^()]*?)(?::\d+)?\)$")
_OURS = "bridge/"
_WAITING = frozenset({"epoll_pwait", "epoll_wait"})  # a sample here is the event loop with nothing to do


@dataclass(frozen=True, slots=True)
class Share:
    """Of all samples, in percent."""

    name: str
    own: float  # here, or in what no function of ours called it is
    all: float  # here or below


@dataclass(frozen=True, slots=True)
class Profile:
    """What a number of samples say."""

    samples: int
    packages: tuple[Share, ...]
    functions: tuple[Share, ...]
    below: tuple[tuple[str, float], ...]  # what is not ours, by its own name: the kernel's calls, the encoder, ...


def start(pid: int, seconds: float, directory: Path, *, native: bool = True) -> Process:
    """py-spy on this process; its stacks are in `profile.raw` when it has ended."""
    command = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if command is None:
        raise BenchmarkError("py-spy is not installed: pip install -e '.[dev]'")
    options = ["record", "--pid", str(pid), "--duration", f"{seconds:g}", "--rate", str(SAMPLES_PER_S)]
    options += ["--format", "raw", "--output", str(directory / "profile.raw"), *(["--native"] if native else [])]
    return Process("py-spy", [command, *options], directory=directory, patience_s=5.0)


def read(text: str, *, functions: int = 40) -> Profile:
    """The tables of a `--format raw` file: `frame;frame;frame count`, one line for each distinct stack."""
    own_packages: Counter[str] = Counter()
    all_packages: Counter[str] = Counter()
    own: Counter[str] = Counter()
    everywhere: Counter[str] = Counter()
    below: Counter[str] = Counter()
    total = 0
    for frames, count in _stacks(text):
        total += count
        ours = [frame for frame in frames if frame[1] is not None]
        for name in {name for name, _ in ours}:
            everywhere[name] += count
        for package in {package for _, package in ours if package is not None}:
            all_packages[package] += count
        if ours:
            own[ours[-1][0]] += count
            own_packages[str(ours[-1][1])] += count
        else:
            own_packages["(not ours)"] += count
        if frames and frames[-1][1] is None:
            below[frames[-1][0]] += count
    scale = 100 / total if total else 0.0
    return Profile(
        total,
        tuple(Share(name, own * scale, all_packages[name] * scale) for name, own in own_packages.most_common()),
        tuple(Share(name, count * scale, everywhere[name] * scale) for name, count in own.most_common(functions)),
        tuple((name, count * scale) for name, count in below.most_common(functions // 2)),
    )


def _stacks(text: str) -> Iterator[tuple[list[tuple[str, str | None]], int]]:
    """Each stack: its frames, outermost first, as (name, package of ours or None), and how often it was seen."""
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if stack and count.isdigit() and frames[-1].partition(" ")[0] not in _WAITING:
            yield [_frame(frame) for frame in frames], int(count)


def _frame(text: str) -> tuple[str, str | None]:
    found = _FRAME.match(text)
    if found is None:
        return text, None
    file = found["file"]
    at = file.rfind(_OURS)
    if at < 0:
        return f"{found['function']} ({file})", None
    inside = file[at:]
    parts = inside.split("/")
    package = ".".join(parts[:2]).removesuffix(".py")
    return f"{inside.removesuffix('.py').replace('/', '.')}:{found['function']}", package


def lines(profile: Profile) -> Iterable[str]:
    """The tables, to be printed."""
    yield f"{profile.samples} samples; `own`: here or in what is not ours below it; `all`: with everything below"
    yield "   own    all  package"
    for share in profile.packages:
        yield f"{share.own:5.1f}% {share.all:5.1f}%  {share.name}"
    yield "   own    all  function"
    for share in profile.functions:
        yield f"{share.own:5.1f}% {share.all:5.1f}%  {share.name}"
    yield "   own  what is not ours, by its own name"
    for name, percent in profile.below:
        yield f"{percent:5.1f}%  {name}"
