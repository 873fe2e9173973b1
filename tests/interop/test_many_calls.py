"""Hundreds of calls of SIPp through `serve` with a real Redis (thousands in the slow form), and bad input amid many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.support.application import Application
from tests.support.bad_messages import BAD, garbage
from tests.support.programs import resident_kib
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until, until_awaited

pytestmark = [pytest.mark.interop, pytest.mark.load, pytest.mark.asyncio(loop_scope="module")]

CALLS = 600
RATE = 100
MEDIA_PAIRS = 1000  # a closed pair rests 5 s: 500 of them at this rate
GARBAGE = 500
FLAT_KIB = (
    12 * 1024
)  # what a process may have grown by after the same work once more; a leaked call would be 10 KiB each


@dataclass
class Place:
    scene: Scene
    application: Application
    bridge: Served

    def memory_kib(self) -> dict[str, int]:
        return {child: resident_kib(self.bridge.pid_of(child)) for child in ("signalling", "media-0")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with Scene(tmp_path_factory.mktemp("many")) as scene:
        application = await scene.application()
        bridge = await scene.bridge(application, media_pairs=MEDIA_PAIRS)
        yield Place(scene, application, bridge)


@pytest.mark.parametrize("calls", [CALLS, pytest.param(2000, marks=pytest.mark.slow)])
async def test_every_call_of_many_at_a_hundred_per_second(place: Place, calls: int) -> None:
    known, received = len(place.application.streams), place.application.received
    run = await place.scene.sipp(place.bridge, calls=calls, rate=RATE).done()
    assert (run.created, run.successful, run.failed, run.code) == (calls, calls, 0, 0), str(run)
    everyone = known + calls
    await place.application.all_ended(everyone)
    assert place.application.judge() == {"call.incoming": everyone, "call.answered": everyone, "call.ended": everyone}
    assert place.application.received - received == 3 * calls  # each once: nothing failed, so nothing was repeated
    assert place.bridge.complaints() == []


async def test_nothing_is_left_of_them(place: Place) -> None:
    async def left() -> list[str]:
        metrics = await place.bridge.metrics()
        free = metrics["bridge_media_ports_free"] == MEDIA_PAIRS
        up = [name for name, value in metrics.items() if name.startswith("bridge_calls{") and value]
        return up if free else ["ports"]

    async def nothing() -> bool:
        return not await left()

    await until_awaited(nothing, "every port is free again and no call is up")
    backlog = [value for name, value in (await place.bridge.metrics()).items() if "webhook_backlog" in name]
    assert backlog == [0]


async def test_bad_input_amid_calls_disturbs_none_and_costs_no_memory(place: Place) -> None:
    # The bridge is warm from the calls before: what grows now would grow for ever.
    calls = CALLS
    known, before = len(place.application.streams), place.memory_kib()
    stranger = await place.scene.caller(place.bridge)
    dropped = await _dropped(place.bridge)
    run = place.scene.sipp(place.bridge, calls=calls, rate=RATE)
    await until(lambda: run.created() > calls // 4, "a quarter of the calls has begun")
    for number, datagram in enumerate(garbage(GARBAGE, seed=4)):
        stranger.send(datagram)
        if number % 25 == 0:
            bad = BAD[(number // 25) % len(BAD)]
            assert (await stranger.ask(bad.text)).status == bad.status, bad.name
    assert run.is_running(), "the bad input came too late to be amid the calls"
    done = await run.done()
    assert (done.successful, done.failed) == (calls, 0), str(done)

    async def all_counted() -> bool:
        return await _dropped(place.bridge) >= dropped + GARBAGE

    await until_awaited(all_counted, "all garbage is counted as dropped")
    await place.application.all_ended(known + calls)
    place.application.judge()
    grown = {child: now - before[child] for child, now in place.memory_kib().items()}
    print(
        f"grown by {grown} KiB from {before} over {calls} calls, {GARBAGE} datagrams of garbage and {len(BAD)} bad requests"
    )
    assert all(kib < FLAT_KIB for kib in grown.values()), f"grown by {grown} KiB from {before}"


async def _dropped(bridge: Served) -> float:
    return sum(value for name, value in (await bridge.metrics()).items() if name.startswith("bridge_dropped_total"))
