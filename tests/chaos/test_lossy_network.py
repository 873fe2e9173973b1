"""Of all SIP packets three in ten are lost, some come twice, some too late (survival §5): every call sets up, or both ends agree that
it failed; every event comes once and in order.

It happens between our own phones and their sockets, so that nothing of a call takes another way; T1 and T2 are a fifth there of what
they are by default, at the bridge and at the phones. To SIPp it happens in the kernel, and with the timers that are usual.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest

from tests.support import phone
from tests.support.application import Application
from tests.support.callee import Callee
from tests.support.caller import Caller, OutgoingCall
from tests.support.lossy import LossyWay
from tests.support.pairs import put_through
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

T1, T2 = 0.1, 0.8
GIVEN_UP_S = 64 * T1  # timers B, F, H and L
AT_ONCE = 30  # more would lose packets of their own accord, at sockets that nobody reads for a moment
CONFIG = {"webhooks": {"schedule": QUICK_SCHEDULE}, "sip": {"timers": {"t1_s": T1, "t2_s": T2}}}


class Lines:
    """Who calls, and who is called: each call from INVITE to BYE, by one end or the other."""

    def __init__(self, caller: Caller, callee: Callee) -> None:
        self.caller = caller
        self.callee = callee
        self.outcomes: Counter[str] = Counter()
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def call(self, number: int) -> None:
        async with self._at_once:
            await self._call(number)

    async def _call(self, number: int) -> None:
        call = self.caller.call(str(number))
        try:
            answer = await call.invite()
        except AssertionError:
            self.outcomes["unanswered"] += 1
            return
        self.outcomes[str(answer.status)] += 1
        if answer.status != 200:
            return
        party = next(each for each in self.callee.calls.values() if f"sip:{number}@" in each.invite.start)
        await asyncio.sleep(T1)
        with contextlib.suppress(AssertionError):  # nobody has answered it for so long that it is over all the same
            await (call if number % 2 else party).bye(within_s=GIVEN_UP_S)

    def in_calls(self) -> list[str]:
        """Who was answered, and has neither said BYE nor heard one."""
        ends = [(each, was_answered(each)) for each in self.caller.calls.values()]
        ends += [(each, each.is_up) for each in self.callee.calls.values()]
        said = [leg for leg, answered in ends if answered and not leg.is_over]
        return [leg.call_id for leg in said if not any(each.method == "BYE" for each in leg.responses)]


def agree(lines: Lines, application: Application) -> None:
    """What the application was told is what the caller saw."""
    for call in lines.caller.calls.values():
        stream = application.stream_of(call.call_id)
        types, reason = ([], "") if stream is None else (stream.types, stream.call["ended"]["reason"])
        # A BYE may come before the ACK, if each ACK before it was lost: it has ended then before it was up.
        told = "call.answered" in types or reason == "hangup"
        assert told == was_answered(call), f"{call.call_id}: {types}, {reason}, {call.responses[-1:]}"


def was_answered(call: OutgoingCall) -> bool:
    final = call.final("INVITE", 1)
    return final is not None and final.status == 200


@pytest.mark.parametrize(
    ("calls", "seed"), [(20, 1), pytest.param(300, 2, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
async def test_every_call_sets_up_or_both_ends_agree_that_it_failed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, calls: int, seed: int
) -> None:
    monkeypatch.setattr(phone, "T1", T1)
    monkeypatch.setattr(phone, "T2", T2)
    callee = await scene.callee()
    application = await scene.application(put_through(callee))
    bridge = await scene.bridge(application, config=CONFIG, media_pairs=2 * calls)
    lines = Lines(await scene.caller(bridge), callee)
    lines.caller.way, callee.way = LossyWay(seed), LossyWay(seed + 1000)
    await asyncio.gather(*(lines.call(number) for number in range(1, calls + 1)))
    fates = lines.caller.way.fates + callee.way.fates
    print(f"{calls} calls: {dict(lines.outcomes)}; packets: {dict(fates)}")
    assert fates["lost"] > calls
    assert lines.outcomes["200"] > 0.9 * calls, lines.outcomes
    known = sum(application.stream_of(each.call_id) is not None for each in lines.caller.calls.values())
    await application.all_ended(known + len(callee.calls))
    await until(lambda: not lines.in_calls(), lambda: f"nobody is in a call that is over: {lines.in_calls()}")
    agree(lines, application)
    application.judge()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_sipp_and_a_network_that_loses_three_in_ten(scene: Scene) -> None:
    """Its calls are answered, and it hangs up: whatever it counts as a success has begun and ended for the application too."""
    network = scene.network()
    node, phones = network.host("node"), network.host("phones")
    application = await scene.application(host=network.here)
    store = (await scene.redis(host=network.here)).url
    config = {"webhooks": {"schedule": QUICK_SCHEDULE}}
    bridge = await scene.bridge(application, store=store, host=node, config=config)
    for host in (node, phones):
        network.lose(host, percent=30)
    run = await scene.sipp(bridge, host=phones, calls=100, rate=20, pause_ms=200).done()
    print(run)
    assert run.retransmissions > 50
    assert run.successful > 90, run
    await application.all_ended(run.successful, within_s=64 * 0.5 + 10)
    application.judge()
