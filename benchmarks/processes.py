"""Processes of a measurement: started with their output in a file, read from /proc, ended by their id.

A child dies with us, whatever ends us; whoever has children of its own gets a session of its own and time to end them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

PR_SET_PDEATHSIG = 1
GONE_S = 20.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")

_libc = ctypes.CDLL(None, use_errno=True)


class BenchmarkError(Exception):
    """A measurement cannot be made here; the text says why and what to do."""


class Process:
    """One child. Its output is in `log`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        patience_s: float = 15.0,
    ) -> None:
        """Starts it. `patience_s`: from SIGTERM to SIGKILL."""
        self.name = name
        self.log = directory / f"{name}.log"
        self._patience_s = patience_s
        with self.log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=directory,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,  # Ctrl-C is ours; we end everybody in order
                    preexec_fn=_die_with_parent,  # noqa: PLW1509 -- one prctl, before exec
                )
            except FileNotFoundError:
                raise BenchmarkError(f"{command[0]} is not installed: `make system-deps`") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Its exit code; None when it has not ended in time."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """SIGTERM, patience, SIGKILL."""
        if self._process.poll() is None:
            self._process.terminate()
            if self.wait(self._patience_s) is None:
                self._process.kill()
                self._process.wait()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self._process.terminate()

    def kill_family(self) -> None:
        """`kill -9` of it and of what it has started: nobody gets a word in.

        It is stopped first: if it died first its children would hear of that, and if they did it would start them again.
        """
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)
            children = children_of(self.pid)
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            _await_gone(children)

    def await_ready(self, ready: Callable[[], bool], patience_s: float = 30.0) -> None:
        """Wait until `ready`; BenchmarkError with its last words when it ends or takes too long."""
        deadline = time.monotonic() + patience_s
        while not ready():
            if self.ended is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"{self.name} did not come up:\n{self.last_words()}")
            time.sleep(0.05)

    def last_words(self, lines: int = 12) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])


def _await_gone(pids: Iterable[int]) -> None:
    """Wait for the end of processes that are not our children and have been killed."""
    deadline = time.monotonic() + GONE_S
    while alive := [pid for pid in pids if _is_alive(pid)]:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"still alive after kill -9: {alive}")
        time.sleep(0.005)


def _is_alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        return _stat(pid)[0] != "Z"
    except OSError:
        return False


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Role:
    """Processes whose costs are one column."""

    name: str
    pids: tuple[int, ...]


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far, its dead children included (a Redis forks to rewrite its file)."""
    fields = _stat(pid)
    return sum(int(field) for field in fields[11:15]) * TICK_S


def rss_kb(pid: int) -> int:
    """Resident memory of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise BenchmarkError(f"process {pid} has no memory")


def children_of(pid: int) -> dict[int, str]:
    """Its living children by id, each with its command line."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child): Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ") for child in listed}


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: the second may hold blanks and brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def private_loopback() -> str:
    """A loopback address of our own: no port of it is taken, whatever else runs here. Linux has 2^24 of them.

    The last octet is 1; those above it are free for the peers of whoever listens there.
    """
    chance = SystemRandom()
    for _ in range(100):
        address = f"127.{chance.randrange(64, 255)}.{chance.randrange(256)}.1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, 5060))
            except OSError:
                continue
        return address
    raise BenchmarkError("no loopback address with a free port 5060: is something listening on 0.0.0.0:5060? Stop it.")
