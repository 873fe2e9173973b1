"""The soft phone is called, by a far end that is a raw UDP socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.ambient import SystemClock, SystemTokens
from bridge.phone.incoming import IncomingCall
from bridge.phone.softphone import Phone
from bridge.sip.transaction import Timers
from tests.phone.farend import FarEnd
from tests.support.caller import Message
from tests.support.waiting import until

QUICK = Timers(t1=0.005, t2=0.02, t4=0.02)  # no ACK after 0.32 s
PATIENT = Timers(t1=30.0, t2=30.0)  # nothing is repeated while a test runs


@pytest.fixture
async def far() -> AsyncIterator[FarEnd]:
    far = FarEnd()
    await far.open()
    yield far
    far.close()


class Called:
    """A phone, and the calls that came to it."""

    def __init__(self, timers: Timers) -> None:
        self.calls: list[IncomingCall] = []
        self.phone = Phone("me", clock=SystemClock(), tokens=SystemTokens(), timers=timers, called=self.calls.append)

    async def call(self, number: int = 1) -> IncomingCall:
        await until(lambda: len(self.calls) >= number, "the call comes")
        return self.calls[number - 1]


@pytest.fixture
async def called(far: FarEnd) -> AsyncIterator[Called]:
    called = Called(PATIENT)
    await called.phone.open()
    far.turn_to(called.phone.port)
    yield called
    called.phone.close()


@pytest.fixture
async def quick(far: FarEnd) -> AsyncIterator[Called]:
    called = Called(QUICK)
    await called.phone.open()
    far.turn_to(called.phone.port)
    yield called
    called.phone.close()


async def answered(far: FarEnd, called: Called) -> tuple[IncomingCall, Message]:
    """A call that is up: the call, and the phone's 200."""
    far.invite(sdp=far.sdp())
    call = await called.call()
    call.answer()
    accepted = await far.responds(1, "INVITE")
    far.follow_up("ACK", accepted, branch="ack")
    await call.answered()
    return call, accepted


class TestRinging:
    async def test_it_rings_is_answered_and_hears_and_is_heard(self, far: FarEnd, called: Called) -> None:
        far.invite(sdp=far.sdp(formats="8 0"))
        call = await called.call()
        call.ring()
        ringing = await far.responds(1, "INVITE")
        assert (ringing.status, ringing.body) == (180, "")
        call.answer()
        await until(lambda: far.came[-1].status == 200, "the answer")
        accepted = far.came[-1]
        phone = called.phone
        assert accepted.tag("to") == ringing.tag("to") != ""
        assert accepted["contact"] == f"<sip:me@127.0.0.1:{phone.port}>"
        assert (accepted.media_port(), accepted.direction()) == (phone.audio.port, "sendrecv")
        assert "RTP/AVP 8\r\n" in accepted.body
        assert phone.audio.sent == 0  # not before the ACK
        far.follow_up("ACK", accepted, branch="ack")
        final = await call.answered()
        assert final is not None
        assert final.status == 200
        far.speak(accepted.media_port(), 5)
        await until(lambda: far.rtp >= 2 and phone.audio.quality.packets_received == 5, "audio both ways")

    async def test_a_far_end_that_offers_nothing_is_offered_to(self, far: FarEnd, called: Called) -> None:
        far.invite()
        call = await called.call()
        call.answer()
        accepted = await far.responds(1, "INVITE")
        assert accepted.media_port() == called.phone.audio.port
        far.follow_up("ACK", accepted, branch="ack", sdp=far.sdp(formats="8"))
        await call.answered()
        assert call.negotiated is not None
        assert call.negotiated.codec.name == "PCMA"

    async def test_an_answer_in_the_ack_that_nobody_could_speak_ends_it(self, far: FarEnd, called: Called) -> None:
        far.invite()
        call = await called.call()
        call.answer()
        far.follow_up("ACK", await far.responds(1, "INVITE"), branch="ack", sdp=far.sdp(formats="18"))
        await far.asked("BYE")
        assert call.disagreement == "No common codec in the answer"

    async def test_where_no_codec_fits_it_is_refused(self, far: FarEnd, called: Called) -> None:
        far.invite(sdp=far.sdp(formats="18"))
        call = await called.call()
        call.answer()
        assert (await far.responds(1, "INVITE")).status == 488
        assert await call.over() == "refused"
        assert call.disagreement is not None

    async def test_the_answer_is_repeated_until_its_ack(self, far: FarEnd, quick: Called) -> None:
        far.invite(sdp=far.sdp())
        call = await quick.call()
        call.answer()

        def copies() -> list[Message]:
            return [each for each in far.came if each.status == 200]

        await until(lambda: len(copies()) >= 3, "it is repeated")
        far.follow_up("ACK", copies()[0], branch="ack")
        assert await call.answered() is not None
        assert not call.is_over

    async def test_one_that_is_never_acknowledged_is_ended(self, far: FarEnd, quick: Called) -> None:
        far.invite(sdp=far.sdp())
        call = await quick.call()
        call.answer()
        await far.asked("BYE")
        assert await call.over() == "local"


class TestNotAnswered:
    async def test_rejected(self, far: FarEnd, called: Called) -> None:
        far.invite(sdp=far.sdp())
        call = await called.call()
        call.reject(486)
        assert (await far.responds(1, "INVITE")).status == 486
        assert await call.over() == "refused"
        final = await call.answered()
        assert final is not None
        assert final.status == 486
        call.answer()  # too late, and harmless
        call.hang_up()
        assert {each.status for each in far.came} == {486}

    async def test_hung_up_on_while_it_rings(self, far: FarEnd, called: Called) -> None:
        far.invite(sdp=far.sdp())
        call = await called.call()
        call.hang_up()
        assert (await far.responds(1, "INVITE")).status == 480

    async def test_the_caller_gives_up(self, far: FarEnd, called: Called) -> None:
        far.invite(sdp=far.sdp())
        call = await called.call()
        call.ring()
        far.request("CANCEL", None, branch="first")
        await until(lambda: 487 in [each.status for each in far.came], "the INVITE is answered too")
        assert [each.status for each in far.came] == [180, 200, 487]
        assert await call.over() == "remote"
        assert not call.is_waiting

    async def test_giving_up_too_late_changes_nothing(self, far: FarEnd, called: Called) -> None:
        call, _ = await answered(far, called)
        far.request("CANCEL", None, branch="first")
        await until(lambda: far.came[-1].method == "CANCEL", "it is answered")
        assert not call.is_over

    async def test_without_anybody_who_decides_it_is_busy(self, far: FarEnd) -> None:
        phone = Phone("me", clock=SystemClock(), tokens=SystemTokens(), timers=PATIENT)
        await phone.open()
        far.turn_to(phone.port)
        far.invite(sdp=far.sdp())
        assert (await far.responds(1, "INVITE")).status == 486
        phone.close()

    async def test_a_second_call_finds_it_busy_and_the_next_one_does_not(self, far: FarEnd, called: Called) -> None:
        call, accepted = await answered(far, called)
        far.request("INVITE", None, 7, sdp=far.sdp())
        assert (await far.responds(7, "INVITE")).status == 486
        far.follow_up("BYE", accepted, 2)
        assert await call.over() == "remote"
        far.request("INVITE", None, 8, sdp=far.sdp())
        await called.call(2)
        assert called.phone.audio.sent == 0  # counted anew


class TestEnd:
    async def test_the_caller_hangs_up(self, far: FarEnd, called: Called) -> None:
        call, accepted = await answered(far, called)
        far.follow_up("BYE", accepted, 2, headers='Reason: Q.850;cause=16;text="clear"\r\n')
        assert (await far.responds(2, "BYE")).status == 200
        assert await call.over() == "remote"
        assert call.q850 == 16

    async def test_we_hang_up(self, far: FarEnd, called: Called) -> None:
        call, accepted = await answered(far, called)
        call.hang_up()
        bye = await far.asked("BYE")
        assert (bye["cseq"], bye.tag("from"), bye.tag("to")) == ("1 BYE", accepted.tag("to"), "far")
        far.answer(bye, 200)
        parted = await call.parted()
        assert parted is not None
        assert await call.over() == "local"

    async def test_no_bye_before_the_ack(self, far: FarEnd, called: Called) -> None:
        """§15: the called side must not send one."""
        far.invite(sdp=far.sdp())
        call = await called.call()
        call.answer()
        accepted = await far.responds(1, "INVITE")
        call.hang_up()
        assert far.all("BYE") == []
        far.follow_up("ACK", accepted, branch="ack")
        await far.asked("BYE")
        assert called.phone.audio.sent == 0

    async def test_the_called_side_may_hold_too(self, far: FarEnd, called: Called) -> None:
        call, _ = await answered(far, called)
        holding = asyncio.create_task(call.hold())
        hold = await far.asked("INVITE")
        assert (hold.direction(), hold["cseq"], hold.tag("to")) == ("sendonly", "1 INVITE", "far")
        far.answer(hold, 200, sdp=far.sdp(direction="recvonly"))
        assert await holding is not None
        await far.asked("ACK")
