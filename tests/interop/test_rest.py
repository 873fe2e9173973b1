"""REST against a running bridge: read, command, and what is refused, over calls on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, actions, answering
from tests.support.caller import Caller, OutgoingCall
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

READER = "a-key-that-reads"


async def desk(event: Event) -> web.StreamResponse:
    """300 waits for REST, everything else is answered."""
    waits = event["type"] == "call.incoming" and event["data"]["call"]["to"]["user"] == "300"
    return actions({"action": "park", "timeout_s": 600}) if waits else await answering(event)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("rest")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application(desk)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application) -> Served:
    bridge = await scene.node(application, store=(await scene.redis()).url)
    bridge.config["api"]["keys"].append({"name": "reader", "key": READER, "scopes": ["read"]})
    await bridge.start()
    return bridge


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caller(scene: Scene, bridge: Served) -> Caller:
    return await scene.caller(bridge)


class Desk:
    """The three of them, and the few steps that every test takes."""

    def __init__(self, application: Application, bridge: Served, caller: Caller) -> None:
        self.application = application
        self.bridge = bridge
        self.caller = caller

    async def answered(self) -> tuple[OutgoingCall, str]:
        """A call that is up, and its id."""
        call = self.caller.call()
        assert (await call.invite()).status == 200
        name = (await self.application.stream(call.call_id)).call["id"]
        await self.application.event("call.answered", call=name)
        return call, name

    async def waiting(self) -> tuple[OutgoingCall, str, str]:
        """A call that is parked unanswered, its id and its INVITE."""
        call = self.caller.call("300")
        invite = call.begin()
        stream = await self.application.stream(call.call_id)
        await until(lambda: 180 in [each.status for each in call.responses], "it rings")
        return call, stream.call["id"], invite

    async def ended(self, name: str) -> Event:
        return await self.application.event("call.ended", call=name)

    async def post(self, path: str, body: Any = None, status: int = 202) -> dict[str, Any]:
        async with self.bridge.rest("POST", path, json={} if body is None else body) as answer:
            content: dict[str, Any] = await answer.json()
            assert answer.status == status, content
            return content


@pytest_asyncio.fixture(loop_scope="module")
async def on(application: Application, bridge: Served, caller: Caller) -> Desk:
    return Desk(application, bridge, caller)


async def problem(answer: Any) -> dict[str, Any]:
    """A problem document (RFC 9457), and that it is one."""
    assert answer.content_type == "application/problem+json"
    content: dict[str, Any] = await answer.json()
    assert content["status"] == answer.status
    assert content["type"] == f"/docs/errors#{content['code']}"
    return content


class TestReading:
    async def test_a_live_call_and_then_its_record(self, on: Desk) -> None:
        call, name = await on.answered()
        live = await on.bridge.read(f"/v1/calls/{name}")
        assert (live["id"], live["state"], live["direction"]) == (name, "answered", "inbound")
        assert live["sip"]["call_id"] == call.call_id
        assert live["from"]["user"] == "tests"
        assert live["media"]["remote"] == f"127.0.0.1:{on.caller.rtp.port}"
        assert live["answered_at"] > live["created_at"]
        assert (await call.bye()).status == 200
        told = await on.ended(name)
        record = await on.bridge.read(f"/v1/calls/{name}")
        assert record == told["data"]["call"]
        assert record["state"] == "ended"

    async def test_its_events_are_what_the_webhooks_carried(self, on: Desk) -> None:
        call, name = await on.answered()
        assert (await call.bye()).status == 200
        await on.ended(name)
        listed = await on.bridge.read(f"/v1/calls/{name}/events")
        assert listed["data"] == on.application.streams[name].events
        first = await on.bridge.read(f"/v1/calls/{name}/events?limit=2")
        rest = await on.bridge.read(f"/v1/calls/{name}/events?cursor={first['next_cursor']}")
        assert first["data"] + rest["data"] == listed["data"]

    async def test_a_list_goes_page_by_page_newest_first(self, on: Desk) -> None:
        names = []
        for _ in range(5):
            call, name = await on.answered()
            names.append(name)
            await call.bye()
        found: list[str] = []
        path = "/v1/calls?limit=2"
        while len(found) < 5:
            page = await on.bridge.read(path)
            assert len(page["data"]) <= 2
            found += [each["id"] for each in page["data"]]
            path = f"/v1/calls?limit=2&cursor={page['next_cursor']}"
        assert found[:5] == names[::-1]

    async def test_a_filter(self, on: Desk) -> None:
        call, name = await on.answered()
        up = await on.bridge.read("/v1/calls?state=answered&limit=500")
        assert [each["id"] for each in up["data"]] == [name]
        await call.bye()

    async def test_its_conversation(self, on: Desk) -> None:
        call, name = await on.answered()
        conversation = (await on.bridge.read(f"/v1/calls/{name}"))["conversation_id"]
        shown = await on.bridge.read(f"/v1/conversations/{conversation}")
        assert shown["calls"] == [name]
        assert conversation in [each["id"] for each in (await on.bridge.read("/v1/conversations"))["data"]]
        async with on.bridge.rest("DELETE", f"/v1/conversations/{conversation}") as answer:
            assert answer.status == 202
        await call.hung_up()
        await on.ended(name)


class TestCommands:
    async def test_delete_hangs_up_and_may_be_said_twice(self, on: Desk) -> None:
        call, name = await on.answered()
        async with on.bridge.rest("DELETE", f"/v1/calls/{name}") as answer:
            assert answer.status == 202
            action = (await answer.json())["action_id"]
        await call.hung_up()
        ended = await on.ended(name)
        assert ended["data"]["caused_by"] == action
        async with on.bridge.rest("DELETE", f"/v1/calls/{name}") as answer:
            assert answer.status == 200

    async def test_a_parked_call_is_answered_with_headers(self, on: Desk) -> None:
        call, name, invite = await on.waiting()
        said = await on.post(f"/v1/calls/{name}/answer", {"headers": {"X-Desk": "7"}, "client_state": "s"})
        answer = await call.answer(invite)
        assert answer.status == 200
        assert answer["x-desk"] == "7"
        event = await on.application.event("call.answered", call=name)
        assert event["data"]["caused_by"] == said["action_id"]
        assert event["data"]["call"]["client_state"] == "s"
        await call.bye()

    async def test_a_parked_call_is_turned_away(self, on: Desk) -> None:
        call, name, invite = await on.waiting()
        await on.post(f"/v1/calls/{name}/reject", {"code": 404, "reason": "Moved Out"})
        answer = await call.answer(invite)
        assert (answer.status, answer.reason) == (404, "Moved Out")
        await on.ended(name)

    async def test_a_hangup_carries_its_reason_and_headers(self, on: Desk) -> None:
        call, name = await on.answered()
        await on.post(f"/v1/calls/{name}/hangup", {"reason": 'closing "time"', "headers": {"X-Bye": ["a", "b"]}})
        bye = await call.hung_up()
        assert r'text="closing \"time\""' in bye["reason"]
        assert bye.all("x-bye") == ["a", "b"]

    async def test_a_list_replaces_the_one_that_runs(self, on: Desk) -> None:
        call, name, invite = await on.waiting()
        said = await on.post(
            f"/v1/calls/{name}/actions",
            {
                "actions": [
                    {"action": "ring"},
                    {"action": "answer"},
                    {"action": "pause", "seconds": 0.1},
                    {"action": "hangup"},
                ]
            },
        )
        assert len(said["action_ids"]) == 4
        assert (await call.answer(invite)).status == 200
        await call.hung_up()
        await on.ended(name)
        # A park is done when a REST action comes: nothing of it was canceled (contract §1).
        assert on.application.streams[name].types == [
            "call.incoming",
            "action.completed",
            "call.answered",
            "call.ended",
        ]

    async def test_twenty_at_once(self, on: Desk) -> None:
        """Commands do not wait for one another, and each call has its own end."""
        calls = [await on.waiting() for _ in range(20)]
        await asyncio.gather(*(on.post(f"/v1/calls/{name}/answer") for _, name, _ in calls))
        for call, _, invite in calls:
            assert (await call.answer(invite)).status == 200
        assert {(await call.bye()).status for call, _, _ in calls} == {200}
        for _, name, _ in calls:
            await on.ended(name)


class TestRefusals:
    async def test_what_is_not_there(self, on: Desk) -> None:
        for path in ("/v1/calls/call_none", "/v1/conversations/conv_none", "/v1/calls/call_none/events"):
            async with on.bridge.rest("GET", path) as answer:
                assert (answer.status, (await problem(answer))["code"]) == (404, "not_found")
        async with on.bridge.rest("GET", "/v1/applications") as answer:
            assert answer.status == 404  # not built, and not pretended

    async def test_the_wrong_state(self, on: Desk) -> None:
        call, name = await on.answered()
        async with on.bridge.rest("POST", f"/v1/calls/{name}/answer", json={}) as answer:
            refused = await problem(answer)
            assert (answer.status, refused["code"], refused["call_id"]) == (409, "wrong_state", name)
        assert (await call.bye()).status == 200
        await on.ended(name)
        async with on.bridge.rest("POST", f"/v1/calls/{name}/hangup", json={}) as answer:
            assert (answer.status, (await problem(answer))["code"]) == (410, "ended")

    async def test_what_it_does_not_understand(self, on: Desk) -> None:
        call, name = await on.answered()
        path = f"/v1/calls/{name}/hangup"
        async with on.bridge.rest("POST", path, json={"resaon": "typo"}) as answer:
            assert answer.status == 422
            assert "resaon" in str(await problem(answer))
        async with on.bridge.rest("POST", path, json={"headers": {"Via": "x"}}) as answer:
            assert answer.status == 422
            await problem(answer)
        async with on.bridge.rest("POST", path, json={"headers": {"X-A": "1\r\nX-B: 2"}}) as answer:
            assert answer.status == 422
            await problem(answer)
        async with on.bridge.rest("POST", path, data=b"{", headers={"Content-Type": "application/json"}) as answer:
            assert answer.status == 400
            await problem(answer)
        async with on.bridge.rest("POST", path, data=b"x", headers={"Content-Type": "text/plain"}) as answer:
            assert answer.status == 415
            await problem(answer)
        async with on.bridge.rest("POST", path, json={"reason": "x" * 70_000}) as answer:
            assert answer.status == 413
            await problem(answer)
        async with on.bridge.rest(
            "POST", f"/v1/calls/{name}/actions", json={"actions": [{"action": "dance"}]}
        ) as answer:
            assert answer.status == 422
            assert "dance" in str(await problem(answer))
        assert not call.is_over, "nothing of this has changed the call"
        assert (await call.bye()).status == 200

    async def test_without_a_key_or_with_too_small_a_one(self, on: Desk) -> None:
        call, name = await on.answered()
        for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": ""}):
            async with on.bridge.rest("GET", "/v1/calls", headers=headers) as answer:
                assert (answer.status, (await problem(answer))["code"]) == (401, "unauthorized")
        reads = {"Authorization": f"Bearer {READER}"}
        async with on.bridge.rest("GET", f"/v1/calls/{name}", headers=reads) as answer:
            assert answer.status == 200
        async with on.bridge.rest("DELETE", f"/v1/calls/{name}", headers=reads) as answer:
            assert (answer.status, (await problem(answer))["code"]) == (403, "forbidden")
        assert (await call.bye()).status == 200


async def test_health_and_documents_need_no_key(on: Desk) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/docs/errors"):
        async with on.bridge.rest("GET", path, headers={"Authorization": ""}) as answer:
            assert answer.status == 200, path


async def test_every_promise_was_kept(on: Desk) -> None:
    await on.application.all_ended(1)
    on.application.judge()
