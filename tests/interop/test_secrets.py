"""Passwords that an application gives us: used where a far end asks for them, and found nowhere else. Not in the store, not in
its append-only file, not in the log, not in what REST and the webhooks say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from bridge.sip.digest import Ha1, make_ha1
from tests.support.application import Application, Event, actions
from tests.support.callee import IncomingCall
from tests.support.redis import RedisServer
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = pytest.mark.interop

PASSWORD = "X7-nobody-shall-read-this"
NAME = "somebody-at-desk"  # which may be read, and so shows where the password would be
AUTH = {"username": NAME, "password": PASSWORD}


def asks_first(call: IncomingCall) -> None:
    """For a password, and then answers."""
    if len(call.invites) > 1:
        call.accept()
    else:
        call.say(401, headers='WWW-Authenticate: Digest realm="r", nonce="n1", qop="auth"\r\n')


@dataclass
class Place:
    """Everything that could tell."""

    redis: RedisServer
    bridge: Served
    application: Application
    read: list[Any]  # what REST has said

    def tells(self) -> dict[str, str]:
        """What each of them holds, as text."""
        return {
            "store": self.redis.contents().decode("utf-8", "replace"),
            "append-only file": self.redis.history().decode("utf-8", "replace"),
            "log": self.bridge.log.read_text(),
            "REST": json.dumps(self.read),
            "webhooks": json.dumps(list(self.application.events())),
        }

    def knows(self, secret: str) -> list[str]:
        return [where for where, text in self.tells().items() if secret in text]

    async def rest(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        async with self.bridge.rest(method, path, **({} if body is None else {"json": body})) as answer:
            assert answer.status < 300, await answer.text()
            self.read.append(await answer.json())
        return self.read[-1]


async def place(scene: Scene, reply: dict[str, Any] | None = None, **config: Any) -> Place:
    async def desk(event: Event) -> web.StreamResponse:
        return actions(reply) if reply and event["type"] == "call.incoming" else web.Response()

    application, redis = await scene.application(desk), await scene.redis(remembers=True)
    bridge = await scene.node(application, store=redis.url, config={"log": {"level": "debug"}, **config})
    bridge.config["api"]["keys"][0]["scopes"].append("admin")
    await bridge.start()
    return Place(redis, bridge, application, [])


async def test_of_a_call_that_we_make_and_of_what_it_does_next(scene: Scene) -> None:
    here, callee = await place(scene), await scene.callee(asks_first)
    target = {"uri": callee.uri, "auth": AUTH}
    later = [{"action": "pause", "seconds": 600}, {"action": "dial", "to": target}]
    name = (await here.rest("POST", "/v1/calls", {"to": target, "actions": later}))["id"]
    call = await callee.called()
    await call.up()
    await here.application.event("call.answered", call=name)
    await here.rest("GET", f"/v1/calls/{name}")
    assert here.knows(PASSWORD) == []
    assert {"store", "append-only file"} <= set(here.knows(NAME))
    former = here.bridge.kill_child("signalling")
    await here.bridge.next_pid_of("signalling", former)
    await here.bridge.ready()
    await here.rest("DELETE", f"/v1/calls/{name}")
    await call.hung_up()
    await here.application.event("call.ended", call=name)
    await here.rest("GET", f"/v1/calls/{name}")
    await here.rest("GET", f"/v1/calls/{name}/events")
    assert here.knows(PASSWORD) == []


async def test_of_whom_a_reply_dials(scene: Scene) -> None:
    callee = await scene.callee(asks_first)
    here = await place(scene, {"action": "dial", "to": {"uri": callee.uri, "auth": AUTH}})
    call = (await scene.caller(here.bridge)).call()
    assert (await call.invite()).status == 200
    await here.application.event("call.joined")
    assert here.knows(PASSWORD) == []
    assert "store" in here.knows(NAME)
    assert (await call.bye()).status == 200
    await until(lambda: here.application.count("call.ended") == 2, "both are over")
    assert here.knows(PASSWORD) == []


async def test_of_a_reply_that_nobody_understands(scene: Scene) -> None:
    """What was received is told to whoever sent it, but not this."""
    here = await place(scene, {"action": "dial", "to": {"uri": "sip:x@127.0.0.1", "auth": AUTH, "colour": "blue"}})
    call = (await scene.caller(here.bridge)).call()
    assert (await call.invite()).status == 480
    await here.application.event("action.failed")
    await here.application.event("call.ended")
    assert here.knows(PASSWORD) == []


@pytest.mark.parametrize("sealed", [True, False], ids=["with a cluster.secret", "with one that was made"])
async def test_of_a_user(scene: Scene, sealed: bool) -> None:
    """An HA1 proves as much as its password. A key that lies beside it would be no lock."""
    here = await place(scene, **({"cluster": {"secret": "a secret of ours"}} if sealed else {}))
    await here.rest("PUT", f"/v1/users/{NAME}", {"password": PASSWORD})
    ha1: Ha1 = make_ha1(NAME, "sip-bridge", PASSWORD)
    assert here.knows(PASSWORD) == []
    for proof in (ha1.md5, ha1.sha_256):
        assert proof is not None
        assert here.knows(proof) == ([] if sealed else ["store", "append-only file"])
    assert "store" in here.knows(NAME)
