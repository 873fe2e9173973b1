"""A Redis Cluster to us is the node that has one slot: failed over, killed, resharded while calls are up.

That every script and every command stays within the slot is shown by the other tests of the store, which run on three
primaries too. Resharding moves the keys one by one, and a script must not see a part of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.engine.inputs import Committed, StoreAway, StoreBack
from bridge.errors import StartError
from bridge.store.redis import RedisStore
from tests.store.carried import Carried
from tests.store.test_failover import make_calls, open_node, tell_everything_once_in_order
from tests.store.writes import CALL, CONVERSATION, Inbox, commit
from tests.support.redis import RedisServer
from tests.support.redis_cluster import ClusterRedis
from tests.support.waiting import until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRedis]:
    store = ClusterRedis(tmp_path_factory.mktemp("cluster"))
    try:
        asyncio.run(store.start())
        yield store
    finally:
        store.kill()


@pytest.fixture
async def emptied(cluster: ClusterRedis) -> ClusterRedis:
    await until(lambda: cluster.replicas, "the replica is known")
    for node in cluster.primaries:
        assert node.ask("FLUSHALL") == b"+OK\r\n"
    return cluster


async def test_calls_go_on_over_a_failover_as_ordered(emptied: ClusterRedis) -> None:
    async with Carried(emptied.url) as node:
        await node.call_in()
        names = await make_calls(node, asyncio.ensure_future(emptied.fail_over()))
        names.append(await node.call_in())
        await node.is_settled()
        assert StoreBack() in node.told
        await node.agree()
        tell_everything_once_in_order(node, len(names) + 1)


async def test_what_is_not_hot_follows_too(emptied: ClusterRedis) -> None:
    node = await open_node(emptied.url)
    assert await node.write(commit(1)) == "applied"
    assert await node.store.conversation(CONVERSATION) is not None
    old = emptied.owner
    new = await emptied.fail_over()
    assert new is not old
    assert len(await node.store.claim_predecessors("n1:second", "second")) == 1
    assert (await node.store.announce("n1:second", b"{}", 3.0)).replaced_by is None
    await node.store.close()


async def test_a_slot_on_its_way_is_waited_for(emptied: ClusterRedis) -> None:
    """Halfway a write finds a part of its keys: it is neither applied to that part nor answered."""
    source = emptied.owner
    target = next(node for node in emptied.primaries if node is not source)
    async with Carried(emptied.url) as node:
        for _ in range(5):
            await node.call_in()
        await node.is_settled()
        emptied.begin_move(source, target)
        assert emptied.move_keys(source, target, 7) == 7
        store = await open_node(emptied.url)
        store.store.commit(commit(1, ticket=1, events=(1,)))
        await store.inbox.holds(StoreAway())
        assert store.inbox.answers() == []
        for server in (source, target):
            assert server.ask("EXISTS", f"{{bridge}}:conv:{CONVERSATION}") != b":1\r\n"
        while emptied.move_keys(source, target, 100):
            pass
        await emptied.end_move(source, target)
        await store.inbox.holds(Committed(1))
        await store.store.close()
        assert target.ask("EXISTS", f"{{bridge}}:conv:{CONVERSATION}") == b":1\r\n"
        last = await node.call_in()
        node.bye(last)
        await node.is_settled()
        assert emptied.owner is target
        tell_everything_once_in_order(node, 6)
    await emptied.move_slot(target, source)


async def test_a_script_that_breaks_off_halfway_is_repeated_as_a_whole(emptied: ClusterRedis) -> None:
    source = emptied.owner
    target = next(node for node in emptied.primaries if node is not source)
    node = await open_node(emptied.url)
    await node.write(commit(1, events=(1,)))
    emptied.begin_move(source, target)
    emptied.move_key(source, target, f"{{bridge}}:out:{CALL}")
    node.store.commit(commit(2, events=(2,), ticket=2, ends=True))
    await node.inbox.holds(StoreAway())  # the conversation is here, and its events are not
    assert Committed(2) not in node.inbox.inputs
    while emptied.move_keys(source, target, 100):
        pass
    await emptied.end_move(source, target)
    await node.inbox.holds(Committed(2))
    assert await node.store.events(CALL) == [(1, b"event 1"), (2, b"event 2")]
    assert await node.store.final_record(CALL) is not None
    await node.store.close()
    await emptied.move_slot(target, source)


async def test_calls_go_on_over_the_death_of_the_owner(tmp_path: Path) -> None:
    """On a cluster of its own: a replica that has just been ordered about counts old votes for new ones (Redis 7.0)."""
    async with ClusterRedis(tmp_path) as store, Carried(store.url) as node:
        await node.call_in()
        dies = asyncio.ensure_future(store.until_owned_by_another(store.kill_owner()))
        names = await make_calls(node, dies)
        names.append(await node.call_in())
        await node.is_settled()
        await node.agree()
        tell_everything_once_in_order(node, len(names) + 1)


async def test_a_redis_that_is_no_cluster_stops_the_start(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    await server.start()
    with pytest.raises(StartError, match="cluster support disabled"):
        await RedisStore(server.url.replace("redis://", "redis+cluster://"), give=Inbox().give).open()
    server.kill()
