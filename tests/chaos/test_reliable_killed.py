"""`kill -9` of the process between ringing that has to arrive for certain and its PRACK (RFC 3262): the next one says it again under
its number, and takes the PRACK."""

from __future__ import annotations

import pytest
from aiohttp import web

from tests.support.application import Event, actions
from tests.support.scene import Scene
from tests.support.waiting import until

pytestmark = pytest.mark.chaos


async def test_the_heir_says_it_again_and_takes_the_prack(scene: Scene) -> None:
    async def desk(event: Event) -> web.StreamResponse:
        waits = actions("ring", {"action": "park", "timeout_s": 600})
        return waits if event["type"] == "call.incoming" else web.Response()

    application = await scene.application(desk)
    bridge = await scene.bridge(application)
    call = (await scene.caller(bridge)).call("300")
    call.begin(headers="Require: 100rel\r\n")

    def numbers() -> list[str]:
        return [each["rseq"] for each in call.responses if each.status == 180]

    await until(numbers, "the caller hears it ring")
    former, before = bridge.kill_child("signalling"), len(numbers())
    await bridge.next_pid_of("signalling", former)
    await bridge.ready()
    await until(lambda: len(numbers()) > before, "the heir says it again")
    assert len(set(numbers())) == 1
    call.to_tag = call.responses[-1].tag("to")
    assert (await call.request("PRACK", headers=f"RAck: {numbers()[0]} 1 INVITE\r\n")).status == 200
    name = (await application.event("call.incoming"))["data"]["call_id"]
    async with bridge.rest("POST", f"/v1/calls/{name}/answer") as answer:
        assert answer.status == 202, await answer.text()
    await application.event("call.answered")
    assert (await call.bye()).status == 200
    await application.all_ended(1)
    application.judge()
