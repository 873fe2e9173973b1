"""The recorder itself: each broken promise is noticed, and a kept one is not complained of."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientSession, web
from standardwebhooks import Webhook

from bridge.ambient import SystemClock
from tests.support.application import SECRET, Application, Event, answering


class Bridge:
    """Sends what a test says, signed as it should be unless the test says otherwise."""

    def __init__(self, application: Application, session: ClientSession) -> None:
        self.application = application
        self._session = session

    async def tells(self, sequence: int, kind: str, *, name: str = "", secret: str = SECRET, **more: Any) -> int:
        """The status of the answer."""
        data = {
            "stream": "call_1",
            "call_id": "call_1",
            "sequence": sequence,
            "call": {"sip": {"call_id": "x"}},
            **more,
        }
        name = name or f"evt_{sequence}"
        body = json.dumps({"id": name, "type": kind, "data": data})
        now = datetime.fromtimestamp(SystemClock().now(), UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(name, now, body),
        }
        async with self._session.post(self.application.url, data=body, headers=headers) as answer:
            return answer.status

    def faults(self) -> str:
        """What it complains of."""
        with pytest.raises(AssertionError) as found:
            self.application.judge()
        return str(found.value)


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    application = Application()
    await application.start()
    async with ClientSession() as session:
        yield Bridge(application, session)
    await application.stop()


async def test_a_call_as_it_should_be(bridge: Bridge) -> None:
    for sequence, kind in enumerate(("call.incoming", "call.answered", "call.ended"), start=1):
        assert await bridge.tells(sequence, kind) == 200
    await bridge.tells(2, "call.answered")  # again, and the same
    assert bridge.application.judge() == {"call.incoming": 1, "call.answered": 1, "call.ended": 1}
    assert bridge.application.received == 4


async def test_a_wrong_signature(bridge: Bridge) -> None:
    assert await bridge.tells(1, "call.incoming", secret="whsec_" + "d3Jvbmc=") == 401
    assert "not verified" in bridge.faults()


async def test_a_gap(bridge: Bridge) -> None:
    await bridge.tells(1, "call.incoming")
    await bridge.tells(3, "call.ended")
    assert "a gap" in bridge.faults()


async def test_an_old_sequence_under_a_new_id(bridge: Bridge) -> None:
    await bridge.tells(1, "call.incoming")
    await bridge.tells(1, "call.incoming", name="evt_other")
    assert "under a new id" in bridge.faults()


async def test_another_body_under_the_same_id(bridge: Bridge) -> None:
    await bridge.tells(1, "call.incoming")
    await bridge.tells(1, "call.incoming", changed=True)
    assert "another body" in bridge.faults()


async def test_the_next_before_the_last_was_taken(bridge: Bridge) -> None:
    async def fails(event: Event) -> web.StreamResponse:
        return web.Response(status=500)

    bridge.application.reply = fails
    await bridge.tells(1, "call.incoming")
    bridge.application.reply = answering
    await bridge.tells(2, "call.ended")
    assert "#1 was not taken" in bridge.faults()


async def test_something_after_the_end(bridge: Bridge) -> None:
    await bridge.tells(1, "call.incoming")
    await bridge.tells(2, "call.ended")
    await bridge.tells(3, "call.updated")
    assert "after the end" in bridge.faults()


async def test_no_end(bridge: Bridge) -> None:
    await bridge.tells(1, "call.incoming")
    assert "no one end" in bridge.faults()


async def test_two_in_flight(bridge: Bridge) -> None:
    async def meanwhile(event: Event) -> web.StreamResponse:
        bridge.application.reply = answering
        await bridge.tells(1, "call.incoming")
        return web.Response()

    bridge.application.reply = meanwhile
    await bridge.tells(1, "call.incoming")
    await bridge.tells(2, "call.ended")
    assert "two at once" in bridge.faults()
