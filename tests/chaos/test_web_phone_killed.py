"""`kill -9` of the node to which a web phone is connected: nobody can connect to the phone, so it comes to another one by itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.jssip import JsSip
from tests.support.programs import PORTS
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.chaos


async def called(bridge: Served) -> str:
    async with bridge.rest("POST", "/v1/calls", json={"to": "sip:bob@example.com"}) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["id"])


async def knows_both(node: Served) -> bool:
    return len((await node.read("/v1/nodes"))["data"]) == 2


async def test_a_web_phone_keeps_its_call_and_is_called_again(scene: Scene) -> None:
    application = await scene.application()
    store, nodes, urls = (await scene.redis()).url, [], []
    for _ in range(2):
        port = PORTS.one()
        config: dict[str, Any] = {
            "sip": {"listen": [f"ws:127.0.0.1:{port}"], "domains": ["example.com"], "websocket": {"origins": "*"}},
            "users": [{"username": "bob", "password": "secret"}],
            "cluster": {"listen": "127.0.0.1:0", "secret": "a secret that all nodes of the tests share"},
        }
        nodes.append(await scene.bridge(application, store=store, config=config))
        urls.append(f"ws://127.0.0.1:{port}")
    for node in nodes:
        await until_awaited(lambda node=node: knows_both(node), "the nodes know each other")
    bob = await JsSip.started(",".join(urls), "sip:bob@example.com", "secret")
    scene.stack.push_async_callback(bob.stop)
    await bob.said("connected")
    bob.do("register")
    await bob.said("registered")

    name = await called(nodes[1])  # by the other node: the one that has the connection passes it on
    await bob.said("confirmed")
    await application.event("call.answered", call=name)
    nodes[0].kill()
    await bob.said("connected", 2)
    await bob.said("registered", 2)
    await application.event("registration.refreshed")  # the same phone, by another flow (RFC 5626)
    bob.do("hang_up")  # of the call that has gone on, by the new connection
    ended = (await application.event("call.ended", call=name))["data"]["call"]["ended"]
    assert (ended["by"], ended["reason"]) == ("remote", "hangup")

    again = await called(nodes[1])
    await bob.said("confirmed", 2)
    await application.event("call.answered", call=again)
    bob.do("hang_up")
    await application.event("call.ended", call=again)
    await application.all_ended(2)
    application.judge()
