"""The stores under test: one in memory, and a real one on each server that is found here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bridge.store.keyspace import Keyspace
from bridge.store.memory import MemoryStore
from bridge.store.redis import RedisStore
from tests.store.servers import Server, find_binary
from tests.store.writes import Inbox, Node

RETENTION_S = 100.0


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time


class Place:
    """One keyspace, and nodes that work on it."""

    def __init__(self, kind: str, server: Server | None, prefix: str) -> None:
        self.kind = kind
        self.server = server
        self.prefix = prefix
        self.clock = Hands()
        self.keyspace = Keyspace(self.clock)
        self._exits = AsyncExitStack()

    async def node(self, *, retention_s: float = RETENTION_S, reads: tuple[int, ...] = ()) -> Node:
        inbox = Inbox()
        store: Any
        if self.server is None:
            store = MemoryStore(
                give=inbox.give, clock=self.clock, keyspace=self.keyspace, retention_s=retention_s, reads=reads
            )
        else:
            store = RedisStore(
                self.server.url, give=inbox.give, prefix=self.prefix, retention_s=retention_s, reads=reads
            )
        await store.open()
        self._exits.push_async_callback(store.close)
        return Node(store, inbox)

    def empty(self) -> None:
        """All data is lost."""
        if self.server is None:
            self.keyspace.empty()
        else:
            assert self.server.ask("FLUSHALL") == b"+OK\r\n"

    async def close(self) -> None:
        await self._exits.aclose()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path, for a Unix socket's must be."""
    with tempfile.TemporaryDirectory(prefix="bridge-store-") as name:
        yield Path(name)


def _shared_server(kind: str) -> Iterator[Server | None]:
    binary = find_binary(kind)
    if binary is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{kind}-server is missing")
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="bridge-store-") as name:
        server = Server(Path(name), binary)
        server.start()
        yield server
        server.kill()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server | None]:
    yield from _shared_server("redis")


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server | None]:
    yield from _shared_server("valkey")


_PREFIXES = count()


@pytest.fixture(params=["memory", "redis", "valkey"])
async def place(
    request: pytest.FixtureRequest, redis_server: Server | None, valkey_server: Server | None
) -> AsyncIterator[Place]:
    """Each test on each store, with keys of its own."""
    server = {"memory": None, "redis": redis_server, "valkey": valkey_server}[request.param]
    if server is None and request.param != "memory":
        pytest.skip(f"no {request.param}-server here: apt install {request.param}-server")
    place = Place(request.param, server, f"{{test{next(_PREFIXES)}}}")
    yield place
    await place.close()


@pytest.fixture
def make_server(directory: Path) -> Iterator[Callable[..., Server]]:
    """A redis-server of one's own, to be killed, stopped and started."""
    made: list[Server] = []

    def make(*options: str) -> Server:
        binary = find_binary("redis") or find_binary("valkey")
        if binary is None:
            pytest.skip("no redis-server here: apt install redis-server")
        server = Server(directory, binary, options)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.kill()
