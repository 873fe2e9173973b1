"""`kill -9` of a whole node that never comes back: the others carry on its calls, at their own addresses (survival §4, §5)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.application import Application
from tests.support.balancer import Balancer
from tests.support.callee import Callee, IncomingCall, rings
from tests.support.caller import Caller, OutgoingCall
from tests.support.pairs import Pair, end_all, put_through
from tests.support.programs import children_of
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

NODES = 3
LEASE_S = 3.0


class Cluster:
    """Nodes on one Redis, somebody who calls each of them, and somebody who is called."""

    def __init__(self, application: Application, callee: Callee) -> None:
        self.application = application
        self.callee = callee
        self.nodes: list[Served] = []
        self.callers: list[Caller] = []
        self._number = 100

    @classmethod
    async def up(cls, scene: Scene, nodes: int = NODES, config: Mapping[str, Any] | None = None) -> Cluster:
        callee = await scene.callee()
        application = await scene.application(put_through(callee))
        store = (await scene.redis()).url
        cluster = cls(application, callee)
        config = {"webhooks": {"schedule": QUICK_SCHEDULE, "decision_timeout_s": 30}, **(config or {})}
        for _ in range(nodes):
            cluster.nodes.append(await scene.bridge(application, store=store, config=config, media_pairs=400))
            cluster.callers.append(await scene.caller(cluster.nodes[-1]))
        return cluster

    async def pairs(self, node: int, count: int) -> list[Pair]:
        """So many joined calls that begin at this node."""
        numbers = [str(self._number + each) for each in range(count)]
        self._number += count
        made = await asyncio.gather(*(Pair.up(self.callers[node], self.callee, number) for number in numbers))
        await asyncio.gather(*(pair.joined(self.application) for pair in made))
        return list(made)

    async def recovered(self, pairs: list[Pair]) -> None:
        """Wait until both calls of each pair have been taken over."""
        streams = [stream for pair in pairs for stream in await pair.streams(self.application)]
        await until(
            lambda: all("call.recovered" in stream.types for stream in streams),
            lambda: (
                f"all are recovered: {[stream.types for stream in streams if 'call.recovered' not in stream.types]}"
            ),
        )

    async def hear_each_other(self, pairs: list[Pair]) -> None:
        """A packet of each end comes out at the other one."""
        for pair in pairs:
            for phone, leg, other_phone, other in (
                (pair.out.phone, pair.out, pair.into.phone, pair.into),
                (pair.into.phone, pair.into, pair.out.phone, pair.out),
            ):
                before = len(other_phone.rtp.said[other.media_port])
                port = leg.media_port

                def is_heard(rtp=other_phone.rtp, port=other.media_port, before=before) -> bool:  # type: ignore[no-untyped-def]
                    return len(rtp.said[port]) > before

                deadline = time.monotonic() + 10
                while not is_heard() and time.monotonic() < deadline:
                    phone.rtp.speak(port)
                    await asyncio.sleep(0.02)
                assert is_heard(), f"{leg.call_id} is not heard"

    async def end(self, pairs: list[Pair]) -> None:
        await end_all(pairs, self.application)


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
    cluster = await Cluster.up(scene)
    mine = [await cluster.pairs(node, count) for node in range(NODES)]
    await cluster.hear_each_other(mine[0])
    killed_at = time.monotonic()
    cluster.nodes[0].kill()
    await cluster.recovered(mine[0])
    print(f"a node with {2 * count} calls killed: all recovered {time.monotonic() - killed_at:.2f} s later")
    await cluster.hear_each_other(mine[0])
    everyone = [pair for pairs in mine for pair in pairs]
    assert not any(leg.is_over for pair in everyone for leg in (pair.out, pair.into))
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


async def test_a_node_that_was_stopped_and_wakes_up_harms_nobody(scene: Scene) -> None:
    cluster = await Cluster.up(scene, nodes=2)
    mine, others = await cluster.pairs(0, 5), await cluster.pairs(1, 5)
    first = cluster.nodes[0]
    family = [first.pid, *children_of(first.pid)]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    await cluster.recovered(mine)
    await asyncio.sleep(LEASE_S)
    for pid in reversed(family):
        os.kill(pid, signal.SIGCONT)
    await until(lambda: len(first.said("conversation_let_go")) == 5, "it lets go of what has moved")
    everyone = [*mine, *others]
    await cluster.hear_each_other(everyone)
    assert not any(leg.is_over for pair in everyone for leg in (pair.out, pair.into))
    assert (await first.metrics())["bridge_takeovers_total"] == 0
    await cluster.end(everyone)
    await cluster.application.all_ended(2 * len(everyone))
    events = cluster.application.judge()
    assert events["call.ended"] == 2 * len(everyone)
    assert events["call.recovered"] == 2 * len(mine)


async def test_a_store_that_stands_still_makes_nobody_steal_anything(scene: Scene) -> None:
    callee = await scene.callee()
    application = await scene.application(put_through(callee))
    server = await scene.redis()
    cluster = Cluster(application, callee)
    for _ in range(2):
        cluster.nodes.append(
            await scene.bridge(application, store=server.url, config={"webhooks": {"schedule": QUICK_SCHEDULE}})
        )
        cluster.callers.append(await scene.caller(cluster.nodes[-1]))
    pairs = [*await cluster.pairs(0, 3), *await cluster.pairs(1, 3)]
    server.pause()
    await asyncio.sleep(10.0)
    server.go_on()
    await cluster.hear_each_other(pairs)
    await asyncio.sleep(2 * LEASE_S + 1.0)
    for node in cluster.nodes:
        assert (await node.metrics())["bridge_takeovers_total"] == 0
    assert not any(leg.is_over for pair in pairs for leg in (pair.out, pair.into))
    await cluster.end(pairs)
    await application.all_ended(2 * len(pairs))
    assert "call.recovered" not in application.judge()
