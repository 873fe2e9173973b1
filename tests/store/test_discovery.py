"""Whom to believe of several Sentinels: real ones, that have been told different things."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bridge.store.asking import client
from bridge.store.server import Discovery, NotFoundError
from tests.support.redis import RedisServer
from tests.support.sentinel import NAME, Sentinel
from tests.support.waiting import until


@pytest.fixture
async def servers(directory: Path) -> AsyncIterator[list[RedisServer]]:
    found = [RedisServer(directory / name) for name in ("old", "new")]
    for server in found:
        await server.start()
    yield found
    for server in found:
        server.kill()


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def watch(directory: Path, server: RedisServer, epoch: int, exits: ExitStack) -> Sentinel:
    """A Sentinel that knows of the failover with this epoch, and that it made this server the primary."""
    sentinel = Sentinel(directory / f"epoch-{epoch}", server.port, 1, (f"sentinel config-epoch {NAME} {epoch}",))
    sentinel.start()
    exits.callback(sentinel.kill)
    await until(lambda: sentinel.ask("PING") is not None, "a Sentinel answers")
    return sentinel


def discovery_of(*sentinels: Sentinel) -> Discovery:
    _, found = client(f"redis+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in sentinels)}/{NAME}", "{bridge}")
    return found


async def test_who_knows_of_the_last_failover_is_believed(
    directory: Path, servers: list[RedisServer], exits: ExitStack
) -> None:
    old, new = servers
    behind, ahead = await watch(directory, old, 3, exits), await watch(directory, new, 5, exits)
    for order in ((behind, ahead), (ahead, behind)):
        discovery = discovery_of(*order)
        assert (await discovery.find()).port == new.port
        await discovery.close()


async def test_a_few_that_are_behind_lead_nobody_back(
    directory: Path, servers: list[RedisServer], exits: ExitStack
) -> None:
    old, new = servers
    behind, ahead = await watch(directory, old, 3, exits), await watch(directory, new, 5, exits)
    discovery = discovery_of(behind, ahead)
    found = await discovery.find()
    ahead.kill()
    with pytest.raises(NotFoundError, match="behind the others"):
        await discovery.find()
    assert not await discovery.has_moved(found)
    await discovery.close()


async def test_sentinels_that_were_all_set_up_anew_are_believed(
    directory: Path, servers: list[RedisServer], exits: ExitStack
) -> None:
    old, new = servers
    sentinels = [await watch(directory, old, epoch, exits) for epoch in (5, 6)]
    discovery = discovery_of(*sentinels)
    assert (await discovery.find()).port == old.port
    for sentinel in sentinels:
        assert sentinel.ask("SENTINEL", "REMOVE", NAME) == "OK"
        assert sentinel.ask("SENTINEL", "MONITOR", NAME, "127.0.0.1", str(new.port), "1") == "OK"
    assert (await discovery.find()).port == new.port
    await discovery.close()


async def test_where_none_answers_nobody_has_moved(
    directory: Path, servers: list[RedisServer], exits: ExitStack
) -> None:
    sentinel = await watch(directory, servers[0], 1, exits)
    discovery = discovery_of(sentinel)
    found = await discovery.find()
    sentinel.kill()
    assert not await discovery.has_moved(found)
    with pytest.raises(NotFoundError, match="no Sentinel knows 'bridge'"):
        await discovery.find()
    await discovery.close()
