"""`kill -9` while phones ring for a caller whose call is passed on: whoever carries it on hears their answers (survival §4.6)."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from tests.chaos.cluster import Cluster
from tests.support.application import Event, Reply, actions
from tests.support.balancer import Balancer
from tests.support.callee import Callee, IncomingCall, rings
from tests.support.caller import OutgoingCall
from tests.support.scene import Scene
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

CALLS = 10


def passes_on(*phones: Callee) -> Reply:
    async def proxy(_: Event) -> web.StreamResponse:
        return actions({"action": "proxy", "targets": [each.uri for each in phones], "record_route": True})

    return proxy


async def both_ring(desk: Callee, mobile: Callee, call: OutgoingCall) -> tuple[IncomingCall, IncomingCall]:
    """The two that ring for this caller."""
    await until(lambda: call.call_id in desk.calls and call.call_id in mobile.calls, "both are asked")
    await until(lambda: any(each.status == 180 for each in call.responses), "it rings")
    return desk.calls[call.call_id], mobile.calls[call.call_id]


async def test_signalling_dies_and_the_first_who_answers_has_the_call(scene: Scene) -> None:
    desk, mobile = await scene.callee(rings), await scene.callee(rings)
    application = await scene.application(passes_on(desk, mobile))
    bridge = await scene.bridge(application)
    caller = await scene.caller(bridge)
    waiting = [caller.call(f"{number}00") for number in range(CALLS)]
    invites = [call.begin() for call in waiting]
    ringing = [await both_ring(desk, mobile, call) for call in waiting]
    killed_at = time.monotonic()
    await bridge.next_pid_of("signalling", bridge.kill_child("signalling"))
    await bridge.ready()
    for number, (call, invite, (one, other)) in enumerate(zip(waiting, invites, ringing, strict=True)):
        winner, loser = (one, other) if number % 2 else (other, one)
        winner.accept()
        assert (await call.answer(invite)).status == 200
        await until(lambda loser=loser: loser.is_canceled, "the other one is given up")  # type: ignore[misc]
        assert "cause=200" in loser.asked("CANCEL")[0]["reason"]
        assert len(loser.invites) == len(winner.invites) == 1, "nobody has rung anew"
        assert (await call.bye()).status == 200
        await winner.hung_up()
    print(f"killed while {2 * CALLS} phones rang: all calls were answered {time.monotonic() - killed_at:.2f} s later")
    await application.all_ended(CALLS)
    events = application.judge()
    assert (events["call.proxied"], events["call.ended"]) == (CALLS, CALLS)
    assert {stream.call["ended"]["reason"] for stream in application.streams.values()} == {"proxied"}


async def test_a_node_dies_and_another_one_at_its_address_passes_the_answer_on(scene: Scene) -> None:
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
    phone = cluster.callee
    phone.behaviour = rings
    cluster.application.reply = passes_on(phone)
    call = cluster.callers[0].call("900")
    invite = call.begin()
    called = await phone.called()
    await until(lambda: any(each.status == 180 for each in call.responses), "it rings")
    balancer.lead_to(nodes[1:])
    cluster.nodes[0].kill()
    stream = await cluster.application.stream(call.call_id)
    heir = cluster.nodes[1]

    async with asyncio.timeout(30):
        while (await heir.metrics())["bridge_takeovers_total"] < 1:
            await asyncio.sleep(0.05)
    called.source = shared  # where its Via says, for a phone that knows nothing of RFC 3581
    called.accept()
    assert (await call.answer(invite)).status == 200
    assert (await call.bye()).status == 200
    await called.hung_up()
    await until(lambda: stream.ended, "its end is told")
    assert stream.types == ["call.incoming", "call.ringing", "call.proxied", "call.ended"]
    assert len(called.invites) == 1
