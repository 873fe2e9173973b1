"""The store of several nodes is away (survival §5): nobody's calls are taken from anybody, and callers hear nothing of it.

Live calls go on, a BYE gets its 200 at once, new calls get 503; afterwards every event arrives, in order. All nodes lose the store
at the same moment, and their leases with it: who took that for the death of the others would steal their calls (quiet time).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.chaos.cluster import ANSWERED_AT_ONCE, LEASE_S, LINKED, NODES, Cluster
from tests.chaos.talking import talking
from tests.support.pairs import Pair
from tests.support.scene import Scene
from tests.support.sentinel import SentinelRedis
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

PAIRS = 4  # at each node: two end while the store is away, one by either end


async def hang_up_meanwhile(pairs: list[Pair]) -> None:
    """One by its caller, one by its callee: 200 for whoever says BYE. The other end hears of it at once, or with the store."""
    assert (await pairs[0].out.bye()).status == 200
    assert (await pairs[1].into.bye()).status == 200


async def turned_away(cluster: Cluster, node: int) -> None:
    answer = await cluster.callers[node].call(ANSWERED_AT_ONCE).invite()
    assert answer.status == 503, answer
    assert int(answer["retry-after"]) > 0


async def pass_through(
    cluster: Cluster, goes: Callable[[], None], comes_back: Callable[[], Awaitable[object]], away_s: float
) -> None:
    """The store goes and comes back amid calls at every node, which talk all the time."""
    mine = [await cluster.pairs(node, PAIRS) for node in range(NODES)]
    everyone = [pair for pairs in mine for pair in pairs]
    staying = [pair for pairs in mine for pair in pairs[2:]]
    async with talking(staying) as gaps:
        goes()
        went_at = time.monotonic()
        for node in cluster.nodes:
            await until(lambda node=node: node.said("store_away"), "it is noticed")  # type: ignore[misc]
        await asyncio.gather(*(hang_up_meanwhile(pairs) for pairs in mine))
        await asyncio.gather(*(turned_away(cluster, node) for node in range(NODES)))
        await asyncio.sleep(max(0.0, went_at + away_s - time.monotonic()))
        cluster.nobody_was_hung_up_on(staying)
        await comes_back()
        for node in range(NODES):
            await cluster.takes_calls(node)
        await asyncio.sleep(LEASE_S)  # whoever takes another one for dead would have claimed something by now
    print(f"a store away for {time.monotonic() - went_at:.1f} s in all; {gaps}")
    assert gaps.part(0.95) < 1.0, gaps  # nothing of media knows the store
    assert await cluster.taken_over() == 0
    cluster.nobody_was_hung_up_on(staying)
    for pairs in mine:
        for pair in pairs[:2]:
            await pair.ended(cluster.application)
            assert pair.out.is_over or pair.into.is_over
    await cluster.end(staying)
    await cluster.application.all_ended(2 * len(everyone) + NODES)
    assert "call.recovered" not in cluster.application.judge()


@pytest.mark.parametrize(
    ("remembers", "away_s"),
    [
        (False, 4.0),
        pytest.param(False, 20.0, marks=pytest.mark.slow),
        pytest.param(True, 20.0, marks=pytest.mark.slow),
    ],
)
async def test_killed_and_started_again(scene: Scene, *, remembers: bool, away_s: float) -> None:
    """With its data, or without: then whoever carries a call has to write it again."""
    redis = await scene.redis(remembers=remembers)
    cluster = await Cluster.up(scene, config=LINKED, store=redis.url)
    await pass_through(cluster, redis.kill, redis.start, away_s)


@pytest.mark.parametrize("away_s", [4.0, pytest.param(10.0, marks=pytest.mark.slow)])
async def test_it_stands_still_and_nobody_steals_anything(scene: Scene, away_s: float) -> None:
    """For more than a lease; in the slow form more than three."""
    redis = await scene.redis()
    cluster = await Cluster.up(scene, store=redis.url)
    pairs = [pair for node in range(NODES) for pair in await cluster.pairs(node, 3)]
    redis.pause()
    await asyncio.sleep(away_s)
    redis.go_on()
    await cluster.hear_each_other(pairs)
    await asyncio.sleep(2 * LEASE_S + 1.0)
    assert await cluster.taken_over() == 0
    cluster.nobody_was_hung_up_on(pairs)
    await cluster.end(pairs)
    await cluster.application.all_ended(2 * len(pairs))
    assert "call.recovered" not in cluster.application.judge()


@pytest.mark.parametrize("settling_s", [LEASE_S, pytest.param(25.0, marks=pytest.mark.slow)])
async def test_a_failover_loses_what_was_written_last(scene: Scene, settling_s: float) -> None:
    """Sentinel promotes a replica that had been cut off: calls that began since then are not in it, and those that ended are
    still up in it. `settling_s`: nodes look every ten seconds for what the store says is theirs."""
    async with SentinelRedis(scene.place("sentinel"), replicas=2) as store:
        cluster = await Cluster.up(scene, config=LINKED, store=store.url)
        mine = [await cluster.pairs(node, PAIRS) for node in range(NODES)]
        await cluster.hear_each_other([pair for pairs in mine for pair in pairs])
        store.cut_off_replicas()
        late = [pair for node in range(NODES) for pair in await cluster.pairs(node, 1)]  # which no replica has
        ended = [pairs.pop() for pairs in mine]  # whose end no replica has
        await cluster.end(ended)
        staying = [pair for pairs in mine for pair in pairs] + late
        async with talking(staying) as gaps:
            await store.lose_primary()
            for node in range(NODES):
                await cluster.takes_calls(node)
            await asyncio.sleep(settling_s)
        assert any(node.said("store_was_older") for node in cluster.nodes), "nothing was lost"
        print(f"a failover that lost writes; {gaps}")
        cluster.nobody_was_hung_up_on(staying)
        assert await cluster.taken_over() == 0
        await cluster.hear_each_other(staying)
        await cluster.end(staying)
        await cluster.application.all_ended(2 * (len(staying) + len(ended)) + NODES)
        assert "call.recovered" not in cluster.application.judge()
