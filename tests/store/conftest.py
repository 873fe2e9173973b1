"""The stores under test: one in memory, a real one on each server that is found here, and those that can fail over."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest

from bridge.store.keyspace import Keyspace
from bridge.store.memory import MemoryStore
from bridge.store.redis import RedisStore
from tests.store.servers import Server, find_binary
from tests.store.writes import Inbox, Node
from tests.support.redis_cluster import ClusterRedis
from tests.support.sentinel import SentinelRedis

RETENTION_S = 100.0


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time


class Asked(Protocol):
    """What answers at this URL."""

    url: str

    def ask(self, *words: str) -> bytes:
        """One command's raw answer."""
        ...


class Watched:
    """The primary that Sentinels watch."""

    def __init__(self, store: SentinelRedis) -> None:
        self.url = store.url
        self._store = store

    def ask(self, *words: str) -> bytes:
        return self._store.primary.ask(*words)


class Shared:
    """The nodes of a cluster: what is asked of a key is asked of all, and one of them knows."""

    def __init__(self, store: ClusterRedis) -> None:
        self.url = store.url
        self._store = store

    def ask(self, *words: str) -> bytes:
        answers = [node.ask(*words) for node in self._store.primaries]
        return next(answer for answer in answers if not answer.startswith(b"-MOVED"))


class Place:
    """One keyspace, and nodes that work on it."""

    def __init__(self, kind: str, server: Asked | None, prefix: str) -> None:
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


@pytest.fixture(scope="session")
def watched_redis() -> Iterator[Asked]:
    with tempfile.TemporaryDirectory(prefix="bridge-store-") as name:
        store = SentinelRedis(Path(name), sentinels=1)
        try:
            asyncio.run(store.start())
            yield Watched(store)
        finally:
            store.kill()


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Asked]:
    with tempfile.TemporaryDirectory(prefix="bridge-store-") as name:
        store = ClusterRedis(Path(name))
        try:
            asyncio.run(store.start())
            yield Shared(store)
        finally:
            store.kill()


_PREFIXES = count()
_SERVERS = {"redis": "redis_server", "valkey": "valkey_server", "sentinel": "watched_redis", "cluster": "redis_cluster"}


@pytest.fixture(params=["memory", *_SERVERS])
def kind_and_server(request: pytest.FixtureRequest) -> tuple[str, Asked | None]:
    """Each of them, started when it is wanted first; outside of any test's loop."""
    kind: str = request.param
    server = None if kind == "memory" else request.getfixturevalue(_SERVERS[kind])
    if server is None and kind != "memory":
        pytest.skip(f"no {kind}-server here: apt install {kind}-server")
    return kind, server


@pytest.fixture
async def place(kind_and_server: tuple[str, Asked | None]) -> AsyncIterator[Place]:
    """Each test on each store, with keys of its own."""
    place = Place(*kind_and_server, f"{{test{next(_PREFIXES)}}}")
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
