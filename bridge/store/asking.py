"""Questions to a Redis through redis-py: what everything that is not hot stands on.

redis-py's own retries are off: whoever asks gets StoreUnavailable and asks again. Where the primary may change its place
every connection asks for it first, and is made anew once another place is known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, ReadOnlyError, RedisError

from bridge.errors import StoreUnavailable
from bridge.store.discovery import PATIENCE_S, ClusterDiscovery, FixedDiscovery, SentinelDiscovery
from bridge.store.server import Address, Discovery
from bridge.store.urls import StoreUrl, read_store_url

TIMEOUT_S = 2.0
CONNECTIONS_MAX = 8
WAIT_MS = 500  # for a replica to acknowledge what must not be lost by a failover
MOVES_MAX = 3  # in a row, that one question follows


class _Following(AbstractConnection):
    """Goes where the primary is."""

    host: str
    port: int

    def __init__(self, *, discovery: Discovery, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._discovery = discovery

    async def connect(self) -> None:
        known = self._discovery.known
        if self.is_connected and (known is None or (known.host, known.port) != (self.host, self.port)):
            await self.disconnect()
        await super().connect()  # type: ignore[no-untyped-call]

    async def _connect(self) -> None:
        address = await self._discovery.find()
        self.host, self.port = address.host, address.port
        await super()._connect()  # type: ignore[no-untyped-call, safe-super]


class _FollowingConnection(_Following, Connection):
    """Over TCP."""


class _FollowingTlsConnection(_Following, SSLConnection):
    """Over TLS."""


def client(url: str, tag: str) -> tuple[Redis, Discovery]:
    """A redis-py client for this URL, and what says where it leads. `tag` is the hash tag of all keys. Raises ValueError,
    or what redis-py raises, for a URL that cannot be used."""
    read = read_store_url(url)
    pool = BlockingConnectionPool.from_url(
        read.server,
        max_connections=CONNECTIONS_MAX,
        timeout=TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    untyped: Any = pool
    sample = untyped.make_connection()  # it has read the URL and its options as its documentation says
    discovery = _discovery(read, _address(sample), tag)
    if read.kind != "plain":
        untyped.connection_class = (
            _FollowingTlsConnection if isinstance(sample, SSLConnection) else _FollowingConnection
        )
        untyped.connection_kwargs["discovery"] = discovery
    return Redis.from_pool(pool), discovery


def _address(sample: Any) -> Address:
    unix = isinstance(sample, UnixDomainSocketConnection)
    return Address(
        host="" if unix else sample.host,
        port=0 if unix else int(sample.port),
        path=sample.path if unix else None,
        username=sample.username,
        password=sample.password,
        database=int(sample.db or 0),
        tls=sample.ssl_context.get() if isinstance(sample, SSLConnection) else None,
    )


def _discovery(read: StoreUrl, like: Address, tag: str) -> Discovery:
    if read.kind == "plain":
        return FixedDiscovery(like)
    clients = [
        Redis.from_url(
            each,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        for each in read.asked
    ]
    if read.kind == "sentinel":
        return SentinelDiscovery(like, clients, read.name, str(read))
    return ClusterDiscovery(like, read.hosts, clients, tag)


class RedisAsking:
    """Asks, and translates what goes wrong."""

    _prefix: str
    _redis: Any  # redis.asyncio.Redis, whose commands are not typed
    _discovery: Discovery

    async def _ask(self, *command: Any) -> Any:
        return await self._follow(command[0], lambda: self._redis.execute_command(*command))

    async def _ask_all(self, commands: Sequence[tuple[object, ...]]) -> list[Any]:
        """All over one connection, in this order. Some may be asked twice."""

        def ask() -> Awaitable[list[Any]]:
            pipeline = self._redis.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            answers: Awaitable[list[Any]] = pipeline.execute()
            return answers

        answers: list[Any] = await self._follow(commands[-1][0], ask)
        return answers

    async def _ask_and_wait(self, commands: Sequence[tuple[object, ...]]) -> tuple[list[Any], bool]:
        """The same, and whether a replica has all of it, where one could take the primary's place."""
        if not self._discovery.replicas:
            return await self._ask_all(commands), True
        # WAIT speaks of what its own connection has written: a command that changed nothing needs a write beside it.
        mark = ("SET", f"{self._prefix}:waited", "", "PX", 60_000)
        *answers, _, acknowledged = await self._ask_all((*commands, mark, ("WAIT", 1, WAIT_MS)))
        return answers, int(acknowledged) > 0

    async def _follow(self, asked: object, question: Callable[[], Awaitable[Any]]) -> Any:
        """Ask, and where the primary has moved, there."""
        moves = 0
        while True:
            try:
                return await question()
            except (MovedError, ReadOnlyError) as error:
                moves += 1
                if moves > MOVES_MAX or isinstance(self._discovery, FixedDiscovery):
                    raise StoreUnavailable(f"{asked}: {error}") from error
                self._discovery.heed(_refusal(error))
            except (RedisError, OSError, TimeoutError) as error:
                raise StoreUnavailable(f"{asked}: {error}") from error


def _refusal(error: MovedError | ReadOnlyError) -> str:
    """What the server has said: redis-py takes it apart."""
    if isinstance(error, MovedError):
        return f"MOVED {error.slot_id} {error.host}:{error.port}"
    return f"READONLY {error}"
