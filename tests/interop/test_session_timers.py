"""Session timers with SIPp (RFC 4028) in real time: nobody may ask for less than 90 s, so both sides take their time at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.application import answering
from tests.support.scene import Scene

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.asyncio, pytest.mark.timeout(200)]

CALLS = 10


async def test_sessions_are_refreshed_and_expire(tmp_path: Path) -> None:
    async with Scene(tmp_path) as scene:
        application = await scene.application(answering)
        config = {"media": {"timeout_s": 600}}  # SIPp says nothing
        bridge = await scene.bridge(application, store="memory://", config=config)
        runs = [
            scene.sipp(bridge, scenario=f"{name}.xml", calls=CALLS, rate=CALLS)
            for name in ("session_refreshed", "session_updated", "session_expired")
        ]
        for done in await asyncio.gather(*(run.done() for run in runs)):
            assert (done.successful, done.failed, done.code) == (CALLS, 0, 0), str(done)
        await application.all_ended(3 * CALLS)
        application.judge()
        ends = [stream.call["ended"]["reason"] for stream in application.streams.values()]
        assert sorted(ends) == ["hangup"] * 2 * CALLS + ["session_expired"] * CALLS
        kinds = {tuple(stream.types) for stream in application.streams.values()}
        assert kinds == {("call.incoming", "call.answered", "call.ended")}
