"""Questions to a Redis through redis-py: what everything that is not hot stands on.

redis-py's own retries are off: whoever asks gets StoreUnavailable and asks again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from bridge.errors import StoreUnavailable
from bridge.store.connection import Address

TIMEOUT_S = 2.0
CONNECTIONS_MAX = 8


def client(url: str) -> tuple[Redis, Address]:
    """A redis-py client for this URL, and where it points to. Raises what redis-py raises for a URL it cannot use."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    untyped: Any = pool
    sample = untyped.make_connection()  # it has read the URL and its options as its documentation says
    unix = isinstance(sample, UnixDomainSocketConnection)
    address = Address(
        host="" if unix else sample.host,
        port=0 if unix else int(sample.port),
        path=sample.path if unix else None,
        username=sample.username,
        password=sample.password,
        database=int(sample.db or 0),
        tls=sample.ssl_context.get() if isinstance(sample, SSLConnection) else None,
    )
    return Redis.from_pool(pool), address


class RedisAsking:
    """Asks, and translates what goes wrong."""

    _prefix: str
    _redis: Any  # redis.asyncio.Redis, whose commands are not typed

    async def _ask(self, *command: Any) -> Any:
        try:
            return await self._redis.execute_command(*command)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"{command[0]}: {error}") from error

    async def _ask_all(self, commands: Sequence[tuple[object, ...]]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            answers: list[Any] = await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"{commands[-1][0]}: {error}") from error
        return answers
