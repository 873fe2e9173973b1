"""`kill -9` of a media worker: the supervisor starts another one, and its calls go on on their ports after a gap (survival §5)."""

from __future__ import annotations

import time

import pytest

from tests.chaos.acts import hold
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

PAIRS = 200


async def test_its_calls_go_on_after_a_gap_and_others_notice_nothing(scene: Scene) -> None:
    application = await scene.application()
    config = {"media": {"workers": 2}, "webhooks": {"schedule": QUICK_SCHEDULE}}
    bridge = await scene.bridge(application, config=config, media_pairs=PAIRS)
    caller = await scene.caller(bridge)
    calls = await hold(caller, 10)
    ports = [call.media_port for call in calls]
    of_the_first = [port for port in ports if port < bridge.media_port + PAIRS]
    assert 0 < len(of_the_first) < 10, "calls are spread over the workers"
    for port in ports:
        await until(lambda port=port: caller.rtp.heard[port] > 0, "each hears its first silence")  # type: ignore[misc]

    killed_at, before = time.monotonic(), caller.rtp.heard.copy()
    former = bridge.kill_child("media-0")
    for port in of_the_first:  # one packet of silence opens the way again
        await until(lambda port=port: caller.rtp.heard[port] > before[port], "it is heard again")  # type: ignore[misc]
    print(
        f"a media worker with {len(of_the_first)} calls killed: all heard again {time.monotonic() - killed_at:.2f} s later"
    )
    assert bridge.pid_of("media-0") != former

    for port in ports:
        caller.rtp.speak(port, 5)
    more = await hold(caller, 10)
    assert not set(ports) & {call.media_port for call in more}
    held = await calls[0].reinvite("sendonly")
    assert (held.status, held.media_port()) == (200, ports[0])
    assert not any(call.is_over for call in calls)
    for call in [*calls, *more]:
        assert (await call.bye()).status == 200
    await application.all_ended(20)
    application.judge()
    for call in calls:
        stream = await application.stream(call.call_id)
        assert stream.ended is not None
        assert stream.ended["data"]["quality"]["packets_received"] == 5
    assert not [line for line in bridge.complaints() if "lost" in line["event"]]
