"""`kill -9` of a whole node in the middle of a transfer: whoever was sent elsewhere tells the heir what came of it."""

from __future__ import annotations

import pytest

from tests.chaos.cluster import Cluster
from tests.support.phone import Leg, Message
from tests.support.scene import Scene
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

CAROL = "sip:carol@192.0.2.4"


async def notify(leg: Leg, said: str, state: str) -> Message:
    """Tell, by a NOTIFY, how our own call goes; the answer to it."""
    fields = f"Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag\r\n"
    return await leg.request("NOTIFY", headers=fields, body=f"SIP/2.0 {said}\r\n")


async def test_the_heir_hears_the_outcome_and_hangs_up(scene: Scene) -> None:
    cluster = await Cluster.up(scene, nodes=2)
    (pair,) = await cluster.pairs(0, 1)
    stream, _ = await pair.streams(cluster.application)
    path = f"/v1/calls/{stream.call['id']}/transfer"
    async with cluster.nodes[0].rest("POST", path, json={"to": CAROL}) as answer:
        assert answer.status == 202, await answer.text()
    async with cluster.nodes[0].rest("POST", path, json={"to": CAROL}) as answer:
        assert answer.status == 409, "one at a time"
    await until_told(cluster, pair.out.call_id, "transfer.progress")
    (refer,) = pair.out.asked("REFER")
    assert refer["refer-to"] == f"<{CAROL}>"
    assert (await notify(pair.out, "100 Trying", "active;expires=60")).status == 200
    cluster.nodes[0].kill()
    await cluster.recovered([pair])
    assert (await notify(pair.out, "200 OK", "terminated;reason=noresource")).status == 200
    await pair.out.hung_up()
    await cluster.application.all_ended(2)
    assert len(pair.out.asked("REFER")) == 1, "nobody is asked twice"
    assert stream.call["ended"]["reason"] == "transferred"
    told = [(event["type"], event["data"]["code"]) for event in stream.events if event["type"].startswith("transfer.")]
    assert told == [("transfer.progress", 200), ("transfer.progress", 100), ("transfer.completed", 200)]
    cluster.application.judge()


async def until_told(cluster: Cluster, call_id: str, event: str) -> None:
    stream = await cluster.application.stream(call_id)
    await until(lambda: event in stream.types, lambda: f"{event} is told: {stream.types}")
