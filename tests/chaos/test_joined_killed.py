"""`kill -9` beneath calls that hear each other: of signalling, of a media worker, and in the middle of being put through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.application import Application
from tests.support.callee import Callee, answers, rings
from tests.support.caller import Caller
from tests.support.pairs import Pair, end_all, heard, party, put_through
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.load, pytest.mark.asyncio(loop_scope="module")]

PAIRS = 10


class House:
    """A caller and a callee with the bridge between them; two workers, so that some pairs are in both."""

    def __init__(self, application: Application, bridge: Served, caller: Caller, callee: Callee) -> None:
        self.application = application
        self.bridge = bridge
        self.caller = caller
        self.callee = callee
        self._number = 100

    def number(self) -> str:
        """One that nobody has called yet."""
        self._number += 1
        return str(self._number)

    async def pairs(self) -> list[Pair]:
        self.callee.behaviour = answers
        made = await asyncio.gather(*(Pair.up(self.caller, self.callee, self.number()) for _ in range(PAIRS)))
        await asyncio.gather(*(pair.joined(self.application) for pair in made))
        return list(made)

    async def talk(self, pairs: list[Pair], packets: int) -> None:
        """Both ends of each, at once."""
        await asyncio.gather(
            self.caller.rtp.talk([pair.out.media_port for pair in pairs], packets),
            self.callee.rtp.talk([pair.into.media_port for pair in pairs], packets),
        )

    def heard(self, pairs: list[Pair]) -> list[list[int]]:
        """What each end has heard of the other one."""
        callers = [heard(self.caller, pair.out) for pair in pairs]
        return callers + [heard(self.callee, pair.into) for pair in pairs]

    async def kill_signalling(self) -> None:
        """And wait for the next one."""
        await self.bridge.next_pid_of("signalling", self.bridge.kill_child("signalling"))
        await self.bridge.ready()

    async def end(self, pairs: list[Pair]) -> None:
        await end_all(pairs, self.application)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with Scene(tmp_path_factory.mktemp("joined")) as scene:
        callee = await scene.callee()
        application = await scene.application(put_through(callee))
        config = {"media": {"workers": 2}, "webhooks": {"schedule": QUICK_SCHEDULE, "decision_timeout_s": 30}}
        bridge = await scene.bridge(application, config=config, media_pairs=400)
        yield House(application, bridge, await scene.caller(bridge), callee)


async def test_signalling_dies_and_not_a_packet_is_lost(house: House) -> None:
    pairs, packets = await house.pairs(), 150
    talking = asyncio.create_task(house.talk(pairs, packets))
    await until(lambda: all(len(each) > 10 for each in house.heard(pairs)), "all talk")
    await house.kill_signalling()
    await talking
    await until(lambda: all(len(each) == packets for each in house.heard(pairs)), "all has arrived")
    assert house.heard(pairs) == [list(range(1, packets + 1))] * 2 * PAIRS

    held = await pairs[0].into.reinvite("sendonly")
    assert (held.status, held.direction()) == (200, "recvonly")
    assert (await pairs[0].into.reinvite("sendrecv")).direction() == "sendrecv"
    await house.talk(pairs, 5)
    await until(lambda: all(len(each) == packets + 5 for each in house.heard(pairs)), "they hear each other as before")
    await house.end(pairs)


async def test_a_media_worker_dies_and_they_hear_each_other_again(house: House) -> None:
    pairs = await house.pairs()
    await house.talk(pairs, 5)
    await until(lambda: all(len(each) == 5 for each in house.heard(pairs)), "all hear each other")
    for worker in ("media-0", "media-1"):
        former, killed_at = house.bridge.kill_child(worker), time.monotonic()
        before = [len(each) for each in house.heard(pairs)]
        talking = asyncio.create_task(house.talk(pairs, 1500))
        await house.bridge.next_pid_of(worker, former)
        await until(
            lambda before=before: all(  # type: ignore[misc]
                len(now) > then + 100 for now, then in zip(house.heard(pairs), before, strict=True)
            ),
            "each hears the other one again",
        )
        print(
            f"{worker} killed: all {2 * PAIRS} hear each other again after {time.monotonic() - killed_at - 2.0:.2f} s"
        )
        talking.cancel()
    await house.end(pairs)


async def test_both_die_at_once(house: House) -> None:
    pairs = await house.pairs()
    former = house.bridge.kill_child("media-0")
    await house.kill_signalling()
    await house.bridge.next_pid_of("media-0", former)
    before = [len(each) for each in house.heard(pairs)]
    talking = asyncio.create_task(house.talk(pairs, 1500))
    await until(
        lambda: all(len(now) > then + 20 for now, then in zip(house.heard(pairs), before, strict=True)),
        "each hears the other one again",
    )
    talking.cancel()
    await house.end(pairs)


async def test_signalling_dies_while_it_rings(house: House) -> None:
    """One is put through by another process than the one that was called; the other one's caller gives up."""
    house.callee.behaviour = rings
    numbers = [house.number(), house.number()]
    calls = [house.caller.call(number) for number in numbers]
    invites = [call.begin() for call in calls]
    picked_up, let_go = [await party(house.callee, number) for number in numbers]
    for call in calls:
        await until(lambda call=call: 180 in [each.status for each in call.responses], "the caller hears it ring")  # type: ignore[misc]
    await house.kill_signalling()

    picked_up.accept()
    assert (await calls[0].answer(invites[0])).status == 200
    pair = Pair(calls[0], picked_up)
    await pair.joined(house.application)
    await house.talk([pair], 5)
    await until(lambda: all(len(each) == 5 for each in house.heard([pair])), "they hear each other")
    assert len(picked_up.invites) == len(picked_up.branches) == 1
    await house.end([pair])

    assert (await calls[1].cancel()).status == 200
    assert (await calls[1].answer(invites[1])).status == 487
    await until(lambda: let_go.is_canceled and let_go.is_refused, "the callee is let go")
    ends = await Pair(calls[1], let_go).ended(house.application)
    assert [event["data"]["call"]["ended"]["reason"] for event in ends] == ["canceled", "canceled"]


async def test_every_promise_was_kept(house: House) -> None:
    await house.application.all_ended(2)
    house.application.judge()
    assert not [line for line in house.bridge.complaints() if "lost" in line["event"]]
