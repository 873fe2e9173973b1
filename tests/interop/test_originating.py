"""`POST /v1/calls`: what becomes of a call that an application asks for, with SIPp and with callees that do all they may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.application import Application, Event
from tests.support.callee import Behaviour, Callee, rings, says, silent
from tests.support.credentials import wants
from tests.support.programs import PORTS
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until, until_awaited

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

PAIRS = 50
INITIATED, RINGING, ANSWERED, ENDED = "call.initiated", "call.ringing", "call.answered", "call.ended"
FAILED = "call.attempt_failed"
PROVEN = {"username": "bridge", "password": "opensesame"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("originating")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application) -> Served:
    # 64 times T1 is what silence takes to be one: 4 s here instead of 32.
    timers = {"t1_s": 0.0625, "t2_s": 0.5, "t4_s": 0.5}
    config = {"sip": {"timers": timers}}
    return await scene.bridge(application, store="memory://", config=config, media_pairs=PAIRS)


class Desk:
    """Whoever asks for calls, and the steps that every test takes."""

    def __init__(self, scene: Scene, application: Application, bridge: Served) -> None:
        self.scene = scene
        self.application = application
        self.bridge = bridge

    async def call(self, to: Any, **how: Any) -> str:
        """The id of a call that has been asked for."""
        async with self.bridge.rest("POST", "/v1/calls", json={"to": to, **how}) as answer:
            assert answer.status == 201, await answer.text()
            shown = await answer.json()
            assert answer.headers["Location"] == f"/v1/calls/{shown['id']}"
            assert (shown["direction"], shown["state"]) == ("outbound", "initiated")
            return str(shown["id"])

    async def hang_up(self, name: str) -> str:
        async with self.bridge.rest("DELETE", f"/v1/calls/{name}") as answer:
            assert answer.status == 202, await answer.text()
            return str((await answer.json())["action_id"])

    async def ended(self, name: str) -> tuple[list[str], tuple[str, str, int | None], Event]:
        """What was told of a call, in order; by whom it ended, why, and the code; its last event."""
        event = await self.application.event(ENDED, call=name)
        assert await self.bridge.read(f"/v1/calls/{name}") == event["data"]["call"]
        ended = event["data"]["call"]["ended"]
        return self.application.streams[name].types, (ended["by"], ended["reason"], ended["sip_code"]), event


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(scene: Scene, application: Application, bridge: Served) -> Desk:
    return Desk(scene, application, bridge)


async def test_sipp_answers_and_we_hang_up(desk: Desk) -> None:
    server = await desk.scene.sipp_server()
    name = await desk.call(server.uri, client_state="s", tags=["reminder"])
    answered = await desk.application.event(ANSWERED, call=name)
    assert answered["data"]["call"]["to"]["user"] == "service"
    action = await desk.hang_up(name)
    types, end, event = await desk.ended(name)
    assert (types, end) == ([INITIATED, RINGING, ANSWERED, ENDED], ("local", "hangup", None))
    assert event["data"]["caused_by"] == action
    assert (event["data"]["call"]["client_state"], event["data"]["call"]["tags"]) == ("s", ["reminder"])


async def test_early_media_that_sipp_wants_to_have_acknowledged(desk: Desk) -> None:
    server = await desk.scene.sipp_server("reliable.xml")
    name = await desk.call(server.uri)
    await desk.application.event(ANSWERED, call=name)
    await desk.hang_up(name)
    types, _, _ = await desk.ended(name)
    assert types == [INITIATED, "call.early_media", ANSWERED, ENDED]
    await server.done()


async def test_the_party_hangs_up(desk: Desk) -> None:
    callee = await desk.scene.callee()
    name = await desk.call(callee.uri)
    call = await callee.called()
    await call.up()
    assert (await call.bye()).status == 200
    types, end, _ = await desk.ended(name)
    assert (types, end) == ([INITIATED, ANSWERED, ENDED], ("remote", "hangup", None))
    assert callee.copies == 1


async def test_it_is_given_up_while_it_rings(desk: Desk) -> None:
    callee = await desk.scene.callee(rings)
    name = await desk.call(callee.uri)
    await desk.application.event(RINGING, call=name)
    await desk.hang_up(name)
    types, end, _ = await desk.ended(name)
    assert (types, end) == ([INITIATED, RINGING, ENDED], ("local", "canceled", 487))
    call = await callee.called()
    await until(lambda: call.is_canceled and call.is_refused, "CANCEL comes, and the ACK of our 487")


async def test_its_actions_run_when_it_is_answered(desk: Desk) -> None:
    callee = await desk.scene.callee()
    steps = [{"action": "pause", "seconds": 0.1}, {"action": "hangup", "reason": "closing time"}]
    name = await desk.call(callee.uri, actions=steps)
    call = await callee.called()
    assert "closing time" in (await call.hung_up())["reason"]
    types, end, _ = await desk.ended(name)
    assert (types, end) == ([INITIATED, ANSWERED, ENDED], ("local", "hangup", None))


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, "forbidden"),
        (404, "not_found"),
        (480, "no_answer"),
        (486, "busy"),
        (488, "not_acceptable"),
        (500, "server_error"),
        (600, "busy"),
        (603, "declined"),
        (604, "not_found"),
    ],
)
async def test_a_refusal(desk: Desk, status: int, reason: str) -> None:
    callee = await desk.scene.callee(says(status))
    name = await desk.call(callee.uri)
    types, end, event = await desk.ended(name)
    assert (types, end) == ([INITIATED, FAILED, ENDED], ("remote", reason, status))
    failed = desk.application.streams[name].events[1]["data"]
    assert (failed["target"], failed["code"], failed["reason"]) == (callee.uri, status, "As You Say")
    assert event["data"]["call"]["attempts"][0]["code"] == status
    assert (await callee.called()).is_refused, "it is acknowledged"


class TestSilence:
    async def test_nobody_says_anything(self, desk: Desk) -> None:
        callee = await desk.scene.callee(silent)
        name = await desk.call(callee.uri)
        types, end, _ = await desk.ended(name)
        assert (types, end) == ([INITIATED, FAILED, ENDED], ("network", "unreachable", 408))
        assert callee.copies == 7  # at 0, 1, 3, 7, 15, 31 and 63 times T1 (§17.1.1.2)

    async def test_nobody_is_there(self, desk: Desk) -> None:
        name = await desk.call(f"sip:bob@127.0.0.1:{PORTS.one()}")
        types, end, _ = await desk.ended(name)
        assert (types, end) == ([INITIATED, FAILED, ENDED], ("network", "unreachable", 408))

    async def test_it_rings_for_too_long(self, desk: Desk) -> None:
        callee = await desk.scene.callee(rings)
        name = await desk.call(callee.uri, timeout_s=0.5)
        types, end, _ = await desk.ended(name)
        assert (types, end) == ([INITIATED, RINGING, FAILED, ENDED], ("local", "no_answer", 408))
        call = await callee.called()
        await until(lambda: call.is_canceled and call.is_refused, "CANCEL comes, and the ACK of our 487")


class TestNames:
    async def test_a_host_that_is_known(self, desk: Desk) -> None:
        callee = await desk.scene.callee()
        name = await desk.call(f"sip:bob@localhost:{callee.port}")
        call = await callee.called()
        assert call.invite.start == f"INVITE sip:bob@localhost:{callee.port} SIP/2.0"
        await call.up()
        await desk.hang_up(name)
        types, end, _ = await desk.ended(name)
        assert (types, end) == ([INITIATED, ANSWERED, ENDED], ("local", "hangup", None))

    async def test_one_that_nobody_knows(self, desk: Desk) -> None:
        name = await desk.call("sip:bob@nobody.invalid")
        types, end, _ = await desk.ended(name)
        assert (types, end) == ([INITIATED, FAILED, ENDED], ("network", "unreachable", 503))


class TestRedirects:
    async def test_one_is_followed(self, desk: Desk) -> None:
        server = await desk.scene.sipp_server()
        callee = await desk.scene.callee(says(302, headers=f"Contact: <{server.uri}>\r\n"))
        name = await desk.call(callee.uri)
        await desk.application.event(ANSWERED, call=name)
        await desk.hang_up(name)
        types, end, event = await desk.ended(name)
        assert (types, end) == ([INITIATED, RINGING, ANSWERED, ENDED], ("local", "hangup", None))
        shown = [(each["target"], each["code"]) for each in event["data"]["call"]["attempts"]]
        assert shown == [(callee.uri, 302), (server.uri, 200)]

    async def test_in_the_order_of_its_contacts(self, desk: Desk) -> None:
        busy, there = await desk.scene.callee(says(486)), await desk.scene.callee()
        contacts = f"Contact: <{there.uri}>;q=0.3, <{busy.uri}>;q=0.9\r\n"
        callee = await desk.scene.callee(says(302, headers=contacts))
        name = await desk.call(callee.uri, fork="serial")
        await (await there.called()).up()
        await desk.hang_up(name)
        types, end, _ = await desk.ended(name)
        assert (types, end) == ([INITIATED, FAILED, ANSWERED, ENDED], ("local", "hangup", None))
        assert len(busy.calls) == 1

    async def test_by_the_proxy_that_it_names(self, desk: Desk) -> None:
        """§21.3.4: the same Request-URI, by way of that proxy."""
        proxy = await desk.scene.callee()
        callee = await desk.scene.callee(says(305, headers=f"Contact: <{proxy.uri}>\r\n"))
        name = await desk.call(callee.uri)
        call = await proxy.called()
        assert call.invite.start == f"INVITE {callee.uri} SIP/2.0"
        assert call.invite["route"] == f"<{proxy.uri};lr>"
        await call.up()
        await desk.hang_up(name)
        types, end, _ = await desk.ended(name)
        assert (types, end) == ([INITIATED, ANSWERED, ENDED], ("local", "hangup", None))

    async def test_in_a_circle(self, desk: Desk) -> None:
        one, other = await desk.scene.callee(), await desk.scene.callee()
        one.behaviour = says(302, headers=f"Contact: <{other.uri}>\r\n")
        other.behaviour = says(302, headers=f"Contact: <{one.uri}>\r\n")
        name = await desk.call(one.uri)
        _, end, _ = await desk.ended(name)
        assert end == ("remote", "redirected", 302)
        assert (len(one.calls), len(other.calls)) == (1, 1)

    async def test_one_is_reported(self, desk: Desk) -> None:
        there = await desk.scene.callee()
        callee = await desk.scene.callee(says(302, headers=f"Contact: <{there.uri}>\r\n"))
        name = await desk.call(callee.uri, on_redirect="report")
        types, end, _ = await desk.ended(name)
        assert (types, end) == ([INITIATED, FAILED, ENDED], ("remote", "redirected", 302))
        assert there.calls == {}


class TestChallenges:
    @pytest.fixture(params=[401, 407])
    def status(self, request: pytest.FixtureRequest) -> int:
        return int(request.param)

    @pytest.fixture(params=["MD5", "SHA-256"])
    def strict(self, request: pytest.FixtureRequest, status: int) -> Behaviour:
        return wants(**PROVEN, status=status, algorithm=str(request.param))

    async def test_one_that_we_can_answer(self, desk: Desk, strict: Behaviour) -> None:
        callee = await desk.scene.callee(strict)
        name = await desk.call({"uri": callee.uri, "auth": PROVEN})
        call = await callee.called()
        await call.up()
        first, second = call.invites
        assert (second.sequence, second.tag("from")) == (first.sequence + 1, first.tag("from"))
        await desk.hang_up(name)
        types, end, event = await desk.ended(name)
        assert (types, end) == ([INITIATED, ANSWERED, ENDED], ("local", "hangup", None))
        assert PROVEN["password"] not in str(desk.application.streams[name].bodies)
        assert len(event["data"]["call"]["attempts"]) == len(callee.calls) == 1

    async def test_the_wrong_password(self, desk: Desk, strict: Behaviour, status: int) -> None:
        callee = await desk.scene.callee(strict)
        name = await desk.call({"uri": callee.uri, "auth": {**PROVEN, "password": "guessed"}})
        types, end, _ = await desk.ended(name)
        assert (types, end) == ([INITIATED, FAILED, ENDED], ("remote", "unauthorized", status))
        (call,) = callee.calls.values()
        assert len(call.invites) <= 3, "it does not go on guessing"

    async def test_one_that_we_have_nothing_for(self, desk: Desk, strict: Behaviour, status: int) -> None:
        callee = await desk.scene.callee(strict)
        name = await desk.call(callee.uri)
        types, end, _ = await desk.ended(name)
        assert (types, end) == ([INITIATED, FAILED, ENDED], ("remote", "unauthorized", status))


class TestForks:
    async def fork(self, desk: Desk, callees: list[Callee], how: str) -> str:
        return await desk.call([each.uri for each in callees], fork=how)

    async def test_the_first_that_answers_has_it(self, desk: Desk) -> None:
        ringing, slow = await desk.scene.callee(rings), await desk.scene.callee(rings)
        name = await self.fork(desk, [ringing, slow], "parallel")
        other, winner = await ringing.called(), await slow.called()
        winner.accept()
        await winner.up()
        await until(lambda: other.is_canceled and other.is_refused, "the other one is given up")
        assert "elsewhere" in other.asked("CANCEL")[0]["reason"]
        assert (await winner.bye()).status == 200
        types, end, _ = await desk.ended(name)
        assert (types, end) == ([INITIATED, RINGING, ANSWERED, ENDED], ("remote", "hangup", None))

    async def test_one_after_the_other(self, desk: Desk) -> None:
        busy, there = await desk.scene.callee(says(486)), await desk.scene.callee()
        name = await self.fork(desk, [busy, there], "serial")
        call = await there.called()
        await call.up()
        assert (await call.bye()).status == 200
        types, _, _ = await desk.ended(name)
        assert types == [INITIATED, FAILED, ANSWERED, ENDED]


async def test_every_promise_was_kept_and_everything_given_back(desk: Desk) -> None:
    await desk.application.all_ended(1)

    async def nothing_is_left() -> bool:
        metrics = await desk.bridge.metrics()
        up = any(value for name, value in metrics.items() if name.startswith("bridge_calls{"))
        return metrics["bridge_media_ports_free"] == PAIRS and not up

    await until_awaited(nothing_is_left, "every port is free again, and no call is up")
    desk.application.judge()
    assert desk.bridge.complaints() == []
