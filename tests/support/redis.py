"""A redis-server on a TCP port of its own, to be killed, stopped and started again on the same data."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.programs import PORTS, Program, find_program
from tests.support.waiting import until


def client(port: int, **options: Any) -> Redis:
    """A redis-py client that says at once when nobody answers."""
    return Redis(port=port, socket_timeout=2, retry=Retry(NoBackoff(), 0), **options)


class RedisServer:
    """With an append-only file if it shall remember, and further `options` of its command line."""

    def __init__(self, directory: Path, *, remembers: bool = False, options: Sequence[str] = ()) -> None:
        self.port = PORTS.one()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._command = [find_program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1"]
        self._command += ["--dir", str(directory), "--save", "", "--appendonly", "yes" if remembers else "no", *options]
        self._program: Program | None = None

    async def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._program = Program(self._command, output=self._directory / "log")
        # One that wants a password first answers too.
        await until(lambda: self.ask("PING").startswith((b"+PONG", b"-NOAUTH")), "redis-server answers")

    def ask(self, *words: str) -> bytes:
        """One command's raw answer, as far as one packet holds it; empty when nobody answers."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=2) as link:
            parts = [b"*%d\r\n" % len(words)]
            parts += [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
            link.sendall(b"".join(parts))
            return link.recv(65536)
        return b""

    def keys(self) -> int:
        """How many keys it holds."""
        return int(self.ask("DBSIZE")[1:])

    def contents(self) -> bytes:
        """Every key and every value that it holds now."""
        held = []
        with client(self.port) as redis:
            for key in redis.scan_iter():
                read = {
                    b"string": lambda key: [redis.get(key)],
                    b"hash": lambda key: [part for item in redis.hgetall(key).items() for part in item],
                    b"zset": lambda key: redis.zrange(key, 0, -1),
                    b"set": redis.smembers,
                    b"stream": lambda key: [str(redis.xrange(key)).encode()],
                }[redis.type(key)]
                held += [key, *read(key)]
        return b"\n".join(held)

    def history(self) -> bytes:
        """Every write that it has ever made, where it remembers."""
        return b"".join(file.read_bytes() for file in sorted(self._directory.glob("appendonlydir/*.incr.aof")))

    def pause(self) -> None:
        """SIGSTOP: connections stay up, and nobody answers."""
        assert self._program is not None
        self._program.send(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._program is not None
        self._program.send(signal.SIGCONT)

    def kill(self) -> None:
        """`kill -9`."""
        if self._program is not None:
            self._program.kill()
