"""`kill -9` of a whole node that never comes back: the others carry on its calls, at their own addresses (survival §4, §5)."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.chaos.cluster import LEASE_S, NODES, Cluster, family_of, stop, wake
from tests.chaos.talking import talking
from tests.support.balancer import Balancer
from tests.support.callee import IncomingCall, rings
from tests.support.caller import OutgoingCall
from tests.support.pairs import Pair
from tests.support.scene import Scene
from tests.support.waiting import until

pytestmark = pytest.mark.chaos


async def ringing(cluster: Cluster) -> tuple[OutgoingCall, str, IncomingCall]:
    """Somebody waits, by the first node, for somebody whose phone rings; with the text of the INVITE."""
    waiting = cluster.callers[0].call("900")
    request = waiting.begin()
    called = await cluster.callee.called()
    await until(lambda: any(each.status == 180 for each in waiting.responses), "it rings")
    stream = await cluster.application.stream(called.call_id)
    await until(lambda: "call.ringing" in stream.types, "it is told")
    return waiting, request, called


async def test_who_rings_in_vain_is_canceled_by_the_heir(scene: Scene) -> None:
    """Its answer would go to where nobody is: its phone must not ring for ever."""
    cluster = await Cluster.up(scene, nodes=2)
    cluster.callee.behaviour = rings
    waiting, request, called = await ringing(cluster)
    killed_at = time.monotonic()
    cluster.nodes[0].kill()
    await until(lambda: called.is_canceled, "it is canceled")
    print(f"a node that was calling somebody killed: CANCEL {time.monotonic() - killed_at:.2f} s later")
    (cancel,) = called.asked("CANCEL")
    assert cancel.all("via") == called.invite.all("via"), "by which it knows what is canceled"
    assert cancel.sequence == called.invite.sequence
    assert (await waiting.answer(request)).status >= 400, "and whoever waits hears of it"
    await cluster.application.all_ended(2)
    lost = (await cluster.application.stream(called.call_id)).ended
    assert lost is not None
    assert lost["data"]["call"]["ended"]["reason"] == "node_lost"
    assert cluster.application.judge()["call.ended"] == 2


async def test_who_rings_is_had_all_the_same_where_all_nodes_have_one_address(scene: Scene) -> None:
    balancer = Balancer([])
    scene.stack.callback(balancer.close)
    await balancer.open()
    shared = ("127.0.0.1", balancer.port)
    config = {
        "cluster": {"listen": "127.0.0.1:0", "secret": "a secret that both nodes share"},
        "sip": {"advertise": f"127.0.0.1:{balancer.port}"},
    }
    cluster = await Cluster.up(scene, nodes=2, config=config)
    nodes = [("127.0.0.1", node.sip_port) for node in cluster.nodes]
    balancer.lead_to(nodes[:1])
    cluster.callers[0].target = shared
    cluster.callee.behaviour = rings
    waiting, request, called = await ringing(cluster)
    balancer.lead_to(nodes)
    assert f"127.0.0.1:{balancer.port};" in called.invite["via"]
    cluster.nodes[0].kill()
    await until(lambda: cluster.callee.copies >= 2, "it is asked again")
    assert len(called.invites) == len(called.branches) == 1, "and takes that for a repetition"
    called.source = shared  # where its Via says, for a phone that knows nothing of RFC 3581
    called.accept()
    assert (await waiting.answer(request)).status == 200
    pair = Pair(waiting, called)
    await pair.joined(cluster.application)
    await cluster.hear_each_other([pair])
    await cluster.end([pair])
    await cluster.application.all_ended(2)
    events = cluster.application.judge()
    assert events["call.recovered"] == events["call.ended"] - 1 == 1, "only the callee has had ports of the dead node"


@pytest.mark.parametrize("count", [5, pytest.param(34, marks=pytest.mark.slow)])
async def test_the_others_carry_on_what_a_dead_node_had(scene: Scene, count: int) -> None:
    cluster = await Cluster.up(scene, media_pairs=100 + 10 * count)
    mine = [await cluster.pairs(node, count) for node in range(NODES)]
    everyone = [pair for pairs in mine for pair in pairs]
    async with talking(everyone):
        killed_at = time.monotonic()
        cluster.nodes[0].kill()
        await cluster.recovered(mine[0])
        print(f"a node with {2 * count} calls killed: all recovered {time.monotonic() - killed_at:.2f} s later")
    await cluster.hear_each_other(everyone)
    cluster.nobody_was_hung_up_on(everyone)
    await cluster.end(everyone)
    await cluster.application.all_ended(2 * len(everyone))
    events = cluster.application.judge()
    assert events["call.recovered"] == 2 * count
    assert events["call.ended"] == 2 * len(everyone)
    for pair in mine[0]:
        for stream in await pair.streams(cluster.application):
            (recovered,) = [event for event in stream.events if event["type"] == "call.recovered"]
            assert recovered["data"]["gap_ms"] < (LEASE_S + 2) * 1000
            assert recovered["data"]["call"]["recovered"] == 1
    taken = [await node.metrics() for node in cluster.nodes[1:]]
    assert sum(each["bridge_takeovers_total"] for each in taken) == count


@pytest.mark.parametrize("stopped_s", [0, pytest.param(30, marks=pytest.mark.slow)])
async def test_a_node_that_was_stopped_and_wakes_up_harms_nobody(scene: Scene, stopped_s: int) -> None:
    """Stopped until its calls have been taken over, and a lease more; or so many seconds."""
    cluster = await Cluster.up(scene, nodes=2)
    mine, others = await cluster.pairs(0, 5), await cluster.pairs(1, 5)
    first, stopped_at = cluster.nodes[0], time.monotonic()
    family = family_of(first)
    stop(family)
    try:
        await cluster.recovered(mine)
        await asyncio.sleep(max(LEASE_S, stopped_at + stopped_s - time.monotonic()))
    finally:
        wake(family)
    await until(lambda: len(first.said("conversation_let_go")) == 5, "it lets go of what has moved")
    everyone = [*mine, *others]
    await cluster.hear_each_other(everyone)
    cluster.nobody_was_hung_up_on(everyone)
    assert (await first.metrics())["bridge_takeovers_total"] == 0
    await cluster.takes_calls(0)
    await cluster.end(everyone)
    await cluster.application.all_ended(2 * len(everyone) + 1)
    events = cluster.application.judge()
    assert events["call.recovered"] == 2 * len(mine)
