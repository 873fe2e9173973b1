"""`kill -9` between a phone's REFER and its last NOTIFY: whoever carries the call on goes on telling it, to the end."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from tests.chaos.cluster import LINKED, Cluster
from tests.support.application import Application, Event, Reply, actions
from tests.support.callee import Callee, rings
from tests.support.caller import OutgoingCall
from tests.support.pairs import Pair
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.waiting import until

pytestmark = pytest.mark.chaos


def desk(callee: Callee) -> Reply:
    """Puts callers through, and lets them transfer."""

    async def reply(event: Event) -> web.StreamResponse:
        if event["type"] == "transfer.requested":
            return actions("accept")
        if event["type"] != "call.incoming":
            return web.Response()
        return actions({"action": "dial", "to": callee.uri_of(event["data"]["call"]["to"]["user"])})

    return reply


def opted_in(application: Application) -> dict[str, Any]:
    hook = {"id": "desk.0", "url": application.url, "decision": True}
    applications = [{"name": "desk", "webhooks": [hook], "transfers": True}]
    return {"applications": applications, "webhooks": {"schedule": QUICK_SCHEDULE, "decision_timeout_s": 30}}


def said(call: OutgoingCall) -> list[str]:
    """What the phone has been told, each once."""
    lines = [each.body.strip().removeprefix("SIP/2.0 ") for each in call.asked("NOTIFY")]
    return list(dict.fromkeys(lines))


async def ringing(pair: Pair, carol: Callee) -> None:
    """The caller has referred its partner to carol, who rings."""
    answer = await pair.out.request("REFER", headers=f"Refer-To: <{carol.uri}>\r\n")
    assert answer.status == 202
    await until(lambda: said(pair.out) == ["100 Trying", "180 Ringing"], lambda: f"it hears: {said(pair.out)}")


def told(application: Application) -> list[tuple[str, int]]:
    """Of the transfer."""
    events = [event for stream in application.streams.values() for event in stream.events]
    return [
        (event["type"], event["data"]["code"])
        for event in events
        if event["type"].startswith("transfer.") and "code" in event["data"]
    ]


async def test_signalling_dies_and_the_phone_hears_that_its_partner_has_arrived(scene: Scene) -> None:
    bob, carol = await scene.callee(), await scene.callee(rings)
    application = await scene.application(desk(bob))
    bridge = await scene.bridge(application, config=opted_in(application))
    pair = await Pair.up(await scene.caller(bridge), bob, "100")
    await pair.joined(application)
    await ringing(pair, carol)
    await bridge.next_pid_of("signalling", bridge.kill_child("signalling"))
    await bridge.ready()
    arrived = await carol.called()
    arrived.accept()
    await pair.out.hung_up()
    assert said(pair.out)[-1] == "200 OK"
    assert len(arrived.invites) == 1, "nobody rings anew"
    assert not pair.into.is_over
    story = [("transfer.progress", 100), ("transfer.progress", 180), ("transfer.completed", 200)]
    await until(lambda: told(application) == story, lambda: f"its application hears: {told(application)}")
    await pair.into.bye()
    await arrived.hung_up()
    await application.all_ended(3)
    application.judge()


@pytest.mark.slow
async def test_a_node_dies_and_the_heir_gives_the_phone_its_partner_back(scene: Scene) -> None:
    """The heir has another address, so carol's answer could not come to it: that target is lost, and nothing else."""
    bob, carol = await scene.callee(), await scene.callee(rings)
    application = await scene.application(desk(bob))
    cluster = Cluster(scene, application, bob, (await scene.redis()).url)
    for _ in range(2):
        node = await scene.node(application, store=cluster.store, config={**opted_in(application), **LINKED})
        cluster.nodes.append(node)
        await node.start()
        cluster.callers.append(await scene.caller(node))
    (pair,) = await cluster.pairs(0, 1)
    await ringing(pair, carol)
    cluster.nodes[0].kill()
    await cluster.recovered([pair])
    await until(lambda: said(pair.out)[-1] == "480 Temporarily Unavailable", lambda: f"it hears: {said(pair.out)}")
    assert pair.out.asked("NOTIFY")[-1]["subscription-state"] == "terminated;reason=noresource"
    await cluster.hear_each_other([pair])
    await until(lambda: told(application)[-1] == ("transfer.failed", 480), lambda: f"{told(application)}")
    await pair.out.bye()
    await pair.into.hung_up()
    await application.all_ended(3)
    application.judge()
