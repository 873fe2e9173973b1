"""Nodes that have addresses of their own, and a network between them that is cut: one owner goes on (survival §1, §5).

Cut means that packets vanish and nobody is told: no connection is closed, nothing is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.chaos.cluster import ANSWERED_AT_ONCE, LEASE_S, LINKED, Cluster
from tests.support.namespaces import Host, Network
from tests.support.scene import Scene
from tests.support.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="module")]

PAIRS = 3


@dataclass
class Town:
    """Two nodes and their store, each at an address of its own; everybody else is at ours."""

    network: Network
    hosts: list[Host]
    store: Host
    cluster: Cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    async with Scene(tmp_path_factory.mktemp("town")) as scene:
        network = scene.network()
        hosts, store = [network.host(f"node-{number}") for number in (1, 2)], network.own_host()
        redis = await scene.redis(host=store)
        cluster = await Cluster.up_at(scene, hosts, here=network.here, store=redis.url, config=LINKED)
        yield Town(network, hosts, store, cluster)


@pytest.fixture(autouse=True)
def healed(town: Town) -> Iterator[None]:
    """Whatever becomes of a test, the next one begins with all of the network."""
    yield
    town.network.heal()


async def test_two_nodes_that_do_not_reach_each_other_keep_what_they_have(town: Town) -> None:
    """Behind a balancer that knows nothing of SIP: what comes to the wrong node comes again to the right one."""
    cluster, (first, second) = town.cluster, town.hosts
    pairs = [await cluster.pairs(node, PAIRS) for node in range(2)]
    everyone = [*pairs[0], *pairs[1]]
    before = await cluster.taken_over()
    town.network.cut(first, second.address)
    await asyncio.sleep(LEASE_S + 1.0)  # whoever took the other one for dead would have taken its calls by now
    assert await cluster.taken_over() == before
    cluster.nobody_was_hung_up_on(everyone)
    await cluster.hear_each_other(everyone)
    for node in range(2):
        await cluster.takes_calls(node)

    balancer = await cluster.balancer()
    for caller in cluster.callers:
        caller.target = (town.network.here.address, balancer.port)
    for pair in everyone[::2]:
        assert (await pair.out.bye()).status == 200
        await pair.into.hung_up()
    for caller, node in zip(cluster.callers, cluster.nodes, strict=True):
        caller.target = node.sip_address
    town.network.heal()
    await cluster.end(everyone[1::2])
    await cluster.application.all_ended(2 * len(everyone) + 2)
    assert "call.recovered" not in cluster.application.judge()


async def test_a_node_that_is_cut_off_from_all_but_its_phones_lets_go(town: Town) -> None:
    """It hears neither the store nor the other node; its phones and the application hear it as before."""
    cluster, (first, second) = town.cluster, town.hosts
    mine, others = await cluster.pairs(0, PAIRS), await cluster.pairs(1, PAIRS)
    everyone = [*mine, *others]
    before = await cluster.taken_over()
    town.network.cut(first, second.address, town.store.address)
    await until(lambda: cluster.nodes[0].said("store_away"), "it knows that it is alone")
    assert (await cluster.callers[0].call(ANSWERED_AT_ONCE).invite()).status == 503
    await cluster.recovered(mine)
    cluster.nobody_was_hung_up_on(everyone)
    await cluster.hear_each_other(everyone)
    await cluster.takes_calls(1)

    town.network.heal()
    await until(lambda: len(cluster.nodes[0].said("conversation_let_go")) == PAIRS, "it lets go of what has moved")
    cluster.nobody_was_hung_up_on(everyone)
    await cluster.hear_each_other(everyone)
    assert await cluster.taken_over() == before + PAIRS
    await cluster.takes_calls(0)
    await cluster.end(everyone)
    await cluster.application.all_ended(2 * len(everyone) + 2)
    assert cluster.application.judge()["call.recovered"] == 2 * len(mine)
