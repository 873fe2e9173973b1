"""Real processes for tests: started on free ports in a directory of their own, ended by pid, never left behind.

Each program is tied to us by prctl(2), so it ends even when the test run is killed, and has a session of its own, so that
whatever it forks can be ended with it. Linux only, as `bridge.children` is.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import pytest

PACKAGES = {
    "sipp": "sip-tester",
    "baresip": "baresip-core",
    "kamailio": "kamailio",
    "redis-server": "redis-server",
    "ip": "iproute2",
    "node": "nodejs",
    "socat": "socat",
    "nft": "nftables",
    "sysctl": "procps",
    "unshare": "util-linux",
}
END_S = 20.0  # from SIGTERM to SIGKILL
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)  # before any fork: the child must not load anything


def find_program(name: str) -> str:
    """The path of a program of the system's packages; without it the test is skipped, and with CI=true it fails."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is not None:
        return found
    text = f"{name} is missing: sudo apt install {PACKAGES[name]}"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


class Program:
    """One process and what it says."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        output: Path,
        environ: Mapping[str, str] | None = None,
        directory: Path | None = None,
        dies_with_us: signal.Signals = signal.SIGKILL,
        errors: Path | None = None,
    ) -> None:
        """`output` takes standard output, and standard error too unless `errors` does. `environ` is added to ours."""
        self.output = output
        parent = os.getpid()

        def tie() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, dies_with_us)
            if os.getppid() != parent:
                os._exit(1)

        with output.open("ab") as out, (errors or output).open("ab") as err:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=directory,
                env={**os.environ, **(environ or {})},
                start_new_session=True,
                preexec_fn=tie,  # noqa: PLW1509 -- one thread starts programs here, and nothing is loaded after the fork
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def said(self) -> str:
        """All it has written so far."""
        return self.output.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, within_s: float = END_S) -> int:
        """Its exit code. Blocks; fails the test when it does not end."""
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"pid {self.pid} has not ended after {within_s:g} s:\n{tail(self.output)}") from None

    def kill(self) -> None:
        """`kill -9` of all its session, and wait until it is gone. Harmless when it has ended."""
        if self._process.poll() is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                self._process.kill()
        self._process.wait(END_S)


def tail(path: Path, lines: int = 40) -> str:
    """The end of a file, for a failure's text."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def children_of(pid: int) -> list[int]:
    """The processes that this one has started and not buried."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Whether the process runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids: Sequence[int]) -> None:
    """Wait for the end of processes that are not our children and have been killed."""
    deadline = time.monotonic() + END_S
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"still alive after kill -9: {alive}"
        time.sleep(0.005)


def resident_kib(pid: int) -> int:
    """Memory of a process that is in RAM, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"pid {pid} has no memory")


class Ports:
    """Free ports, each given once, where the kernel gives none to clients (32768-60999), so that no passing one takes ours.

    Nor do they lie in 10000-32767, which a `serve` with default settings beside us takes whole. A port that was found free is
    bound a moment later, so each of several test processes that run at once has its own share of them.
    """

    SINGLE = (61_000, 65_500)
    BLOCKS = (1_100, 10_000)

    def __init__(self) -> None:
        spread = os.getpid() * 7919 + time.monotonic_ns() // 1000
        self._single, self._blocks = _own_share(self.SINGLE), _own_share(self.BLOCKS)
        self._next = {place: place[0] + spread % (place[1] - place[0]) for place in (self._single, self._blocks)}

    def one(self) -> int:
        """A port that is free for UDP and TCP."""
        return self._find(self._single, 1)

    def block(self, count: int) -> int:
        """The first, an even one, of so many ports in a row."""
        return self._find(self._blocks, count)

    def _find(self, place: tuple[int, int], count: int) -> int:
        for _ in range(place[1] - place[0]):
            first = self._next[place] + self._next[place] % 2
            if first + count > place[1]:
                first = place[0]
            taken = next((port for port in range(first, first + count) if not _is_free(port)), None)
            if taken is None:
                self._next[place] = first + count
                return first
            self._next[place] = taken + 1
        raise AssertionError(f"no {count} free ports in a row")


def _own_share(place: tuple[int, int]) -> tuple[int, int]:
    """Of pytest-xdist's workers, `gw0` and so on, each one's; all of it where there are none."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    size = (place[1] - place[0]) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return place[0] + number * size, place[0] + (number + 1) * size


PORTS = Ports()


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True
