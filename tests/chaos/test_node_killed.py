"""`kill -9` of a whole node (supervisor, signalling, media workers) and its restart on the same name and directory.

Answered calls are found again in the store: BYE gets 200 and `call.ended` is delivered. With the embedded store, which dies
with its node, and with a Redis that does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest

from tests.chaos.acts import hang_up_all, hold
from tests.support.application import Application
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.served import Served
from tests.support.waiting import until, until_awaited

pytestmark = pytest.mark.chaos

HELD = 20


@pytest.fixture(params=["redis", "embedded"])
async def store(request: pytest.FixtureRequest, scene: Scene) -> str:
    return "embedded://" if request.param == "embedded" else (await scene.redis()).url


async def start(scene: Scene, application: Application, store: str, *, media_pairs: int = 100) -> Served:
    config = {"webhooks": {"schedule": QUICK_SCHEDULE}}
    return await scene.bridge(application, store=store, config=config, media_pairs=media_pairs)


@pytest.mark.parametrize("held_calls", [HELD, pytest.param(500, marks=pytest.mark.slow)])
async def test_answered_calls_are_found_again(scene: Scene, store: str, held_calls: int) -> None:
    application = await scene.application()
    bridge = await start(scene, application, store, media_pairs=held_calls)
    caller = await scene.caller(bridge)
    held = await hold(caller, held_calls)
    await until(lambda: application.count("call.answered") == held_calls, "every call is answered")
    bridge.kill()
    killed_at = time.monotonic()
    await bridge.start()
    print(
        f"a node with {held_calls} calls killed: ready again {time.monotonic() - killed_at:.2f} s after its end ({store})"
    )
    assert (await bridge.says("conversations_claimed"))["count"] == held_calls

    # Media died with the node too, and is there again, on the same ports.
    for call in held:
        caller.rtp.speak(call.media_port, 3)
    changed = await held[0].reinvite("sendonly")
    assert (changed.status, changed.media_port()) == (200, held[0].media_port)
    assert set(await hang_up_all(held)) == {200}
    await application.all_ended(held_calls)
    events = application.judge()
    assert events.pop("call.held") == 1
    assert events == {"call.incoming": held_calls, "call.answered": held_calls, "call.ended": held_calls}
    ends = [event["data"] for event in application.events() if event["type"] == "call.ended"]
    assert {(end["call"]["ended"]["by"], end["call"]["ended"]["reason"]) for end in ends} == {("remote", "hangup")}
    assert {end["quality"]["packets_received"] for end in ends} == {3}


async def ends_are_stored(bridge: Served, calls: Iterable[str]) -> None:
    """Wait until the store has the last event of every call: what a BYE's 200 says may be ahead of it."""
    waiting = set(calls)

    async def all_stored() -> bool:
        for call in list(waiting):
            events = (await bridge.read(f"/v1/calls/{call}/events"))["data"]
            if events[-1]["type"] == "call.ended":
                waiting.remove(call)
        return not waiting

    await until_awaited(all_stored, "the end of every call is stored")


async def test_events_that_were_not_delivered_are_delivered_afterwards(scene: Scene) -> None:
    application = await scene.application()
    bridge = await start(scene, application, "embedded://")
    caller = await scene.caller(bridge)
    held = await hold(caller, HELD)
    await until(lambda: application.count("call.answered") == HELD, "every call is answered")
    await application.stop()
    assert set(await hang_up_all(held)) == {200}
    await ends_are_stored(bridge, application.streams)
    bridge.kill()
    assert application.open_calls()
    await application.start()
    await bridge.start()
    await application.all_ended(HELD)
    assert application.judge() == {"call.incoming": HELD, "call.answered": HELD, "call.ended": HELD}
    for name, stream in application.streams.items():  # what REST shows is what was told, by whichever process
        assert stream.ended is not None
        assert await bridge.read(f"/v1/calls/{name}") == stream.ended["data"]["call"]
        assert (await bridge.read(f"/v1/calls/{name}/events"))["data"] == stream.events
    assert {call["id"] for call in (await bridge.read("/v1/calls?limit=500"))["data"]} == set(application.streams)
