"""`sip-bridge call` and `phone`: what they say and how they end, against a far end that answers and asks by hand."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from bridge import calling
from bridge.calling import NOT_ANSWERED, NOT_REGISTERED, Account, Calling, Manner, Waiting
from bridge.errors import StartError
from bridge.net.addresses import way_to
from bridge.phone.softphone import Phone
from bridge.sip.transaction import Timers
from tests.phone.farend import FarEnd
from tests.support.waiting import until


@pytest.fixture
async def far() -> AsyncIterator[FarEnd]:
    far = FarEnd()
    await far.open()
    yield far
    far.close()


class Outing:
    """One run of the command, and what it has said so far."""

    def __init__(self, uri: str, *, seconds: float = 60.0, timeout_s: float | None = None, offers: bool = True) -> None:
        self.lines: list[str] = []
        made = Calling(uri, user="kim", host=None, say=self.lines.append)
        self.task = asyncio.create_task(made.run(seconds=seconds, timeout_s=timeout_s, offers=offers))

    async def code(self) -> int:
        async with asyncio.timeout(20.0):
            return await self.task


def interrupt() -> None:
    """Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


async def test_a_call_is_drawn_and_summed_up(far: FarEnd) -> None:
    outing = Outing(far.uri, seconds=0.1)
    invite = await far.asked("INVITE")
    far.answer(invite, 180, "Ringing")
    far.answer(invite, 200, "OK", sdp=far.sdp())
    far.answer(await far.asked("BYE"), 200, "OK")
    assert await outing.code() == 0
    assert [line[14:].strip(" │─▶◀") for line in outing.lines[1:-1]] == [
        "INVITE (SDP)",
        "180 Ringing",
        "200 OK (SDP)",
        "ACK",
        "BYE",
        "200 OK",
    ]
    assert outing.lines[0].split() == ["kim", far.shown]
    assert "RTP packets sent, 0 heard, 0 lost" in outing.lines[-1]
    assert outing.lines[-1].endswith("ended by us")


async def test_if_they_hang_up_it_says_so(far: FarEnd) -> None:
    outing = Outing(far.uri)
    invite = await far.asked("INVITE")
    far.answer(invite, 200, sdp=far.sdp())
    await far.asked("ACK")
    far.request("BYE", invite)
    assert await outing.code() == 0
    assert outing.lines[-1].endswith("ended by them")
    assert far.all("BYE") == []


async def test_the_far_end_may_offer(far: FarEnd) -> None:
    outing = Outing(far.uri, seconds=0.0, offers=False)
    invite = await far.asked("INVITE")
    assert invite.body == ""
    far.answer(invite, 200, sdp=far.sdp())
    far.answer(await far.asked("BYE"), 200)
    assert await outing.code() == 0


@pytest.mark.parametrize(
    ("status", "said"),
    [(486, "Refused: 486 Busy Here"), (302, "Refused: 302 Busy Here; it names <sip:other@192.0.2.1>")],
)
async def test_a_refusal_is_told_and_is_code_1(far: FarEnd, status: int, said: str) -> None:
    outing = Outing(far.uri)
    far.answer(await far.asked("INVITE"), status, "Busy Here", contact="<sip:other@192.0.2.1>")
    assert await outing.code() == NOT_ANSWERED
    assert outing.lines[-1] == said


async def test_an_answer_without_a_common_codec_is_no_success(far: FarEnd) -> None:
    outing = Outing(far.uri)
    far.answer(await far.asked("INVITE"), 200, sdp=far.sdp(formats="18"))
    far.answer(await far.asked("BYE"), 200)
    assert await outing.code() == NOT_ANSWERED
    assert outing.lines[-1] == "There was no session: No common codec in the answer"


async def test_where_nobody_is_heard_it_ends_by_itself_and_says_so(
    far: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling, "Phone", partial(Phone, timers=Timers(t1=0.005, t2=0.02, t4=0.02)))
    outing = Outing(far.uri)
    assert await outing.code() == NOT_ANSWERED
    assert outing.lines[-1] == "Nobody answered: does anybody listen there, on UDP?"


class TestGivingUp:
    async def test_where_nobody_is_heard_there_is_nobody_to_be_told(self, far: FarEnd) -> None:
        outing = Outing(far.uri, timeout_s=0.1)
        assert await outing.code() == NOT_ANSWERED
        assert outing.lines[-1] == "Given up: not answered within 0.1 s."
        assert {message.method for message in far.came} <= {"INVITE"}

    async def test_what_rings_is_canceled(self, far: FarEnd) -> None:
        outing = Outing(far.uri, timeout_s=0.2)
        invite = await far.asked("INVITE")
        far.answer(invite, 180)
        far.answer(await far.asked("CANCEL"), 200)
        far.answer(invite, 487)
        assert await outing.code() == NOT_ANSWERED
        await far.asked("ACK")
        assert outing.lines[-1] == "Given up: not answered within 0.2 s."

    async def test_ctrl_c_while_it_rings_cancels(self, far: FarEnd) -> None:
        outing = Outing(far.uri)
        invite = await far.asked("INVITE")
        far.answer(invite, 180, "Ringing")
        await until(lambda: "180 Ringing" in outing.lines[-1], "it rings")
        interrupt()
        far.answer(await far.asked("CANCEL"), 200)
        far.answer(invite, 487)
        assert await outing.code() == NOT_ANSWERED
        assert outing.lines[-1] == "Given up."

    async def test_ctrl_c_in_a_call_hangs_up(self, far: FarEnd) -> None:
        outing = Outing(far.uri)
        far.answer(await far.asked("INVITE"), 200, sdp=far.sdp())
        await far.asked("ACK")
        interrupt()
        far.answer(await far.asked("BYE"), 200)
        assert await outing.code() == 0

    async def test_a_bye_that_nobody_answers_is_told(self, far: FarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calling, "PARTING_S", 0.1)
        outing = Outing(far.uri, seconds=0.0)
        far.answer(await far.asked("INVITE"), 200, sdp=far.sdp())
        assert await outing.code() == 0
        assert outing.lines[-2] == "Our BYE was not answered within 0.1 s."


class TestWay:
    def test_a_name_of_both_kinds_means_ipv4(self) -> None:
        assert way_to("localhost") == ("127.0.0.1", "127.0.0.1")

    def test_our_own_address_chooses_the_kind_and_is_kept(self) -> None:
        assert way_to("127.0.0.1", from_="127.0.0.5") == ("127.0.0.5", "127.0.0.1")

    @pytest.mark.parametrize(("host", "from_"), [("no.such.host.invalid", None), ("127.0.0.1", "::1")])
    def test_where_none_leads_it_says_so(self, host: str, from_: str | None) -> None:
        with pytest.raises(StartError, match=f"no way to {host}"):
            way_to(host, from_=from_)

    def test_a_host_that_cannot_be_called_is_refused_before_anything_is_sent(self) -> None:
        with pytest.raises(ValueError, match="no SIP URI"):
            Calling("tel:100", user="kim", host=None, say=print)


class Wait:
    """One run of `sip-bridge phone`, and what it has said so far."""

    def __init__(self, account: Account | None = None, **manner: Any) -> None:
        self.lines: list[str] = []
        self.waiting = Waiting(Manner("alice", **manner), account, say=self.lines.append)
        self.task = asyncio.create_task(self.waiting.run())

    async def code(self) -> int:
        async with asyncio.timeout(20.0):
            return await self.task

    async def port(self) -> int:
        """Where it listens, as it says."""
        await until(lambda: self.lines, "it says where it is")
        return int(self.lines[0].partition("@127.0.0.1:")[2].partition(".")[0])

    def messages(self) -> list[str]:
        return [line[14:].strip(" │─▶◀") for line in self.lines if "─" in line]


class TestPhone:
    async def test_it_rings_answers_and_sums_up(self, far: FarEnd) -> None:
        wait = Wait(answer_after_s=0.0)
        far.turn_to(await wait.port())
        far.invite(sdp=far.sdp())
        accepted = await until(lambda: [each for each in far.came if each.status == 200], "it answers")
        far.follow_up("ACK", accepted[0], branch="ack")
        await until(lambda: far.rtp, "it speaks")
        far.follow_up("BYE", accepted[0], 2)
        await until(lambda: wait.lines[-1].endswith("ended by them"), "it sums up")
        interrupt()
        assert await wait.code() == 0
        assert wait.messages() == ["INVITE (SDP)", "180 Ringing", "200 OK (SDP)", "ACK", "BYE", "200 OK"]

    async def test_ctrl_c_in_a_call_hangs_up(self, far: FarEnd) -> None:
        wait = Wait(answer_after_s=0.0)
        far.turn_to(await wait.port())
        far.invite(sdp=far.sdp())
        accepted = await until(lambda: [each for each in far.came if each.status == 200], "it answers")
        far.follow_up("ACK", accepted[0], branch="ack")
        await until(lambda: far.rtp, "it speaks")
        interrupt()
        far.answer(await far.asked("BYE"), 200)
        assert await wait.code() == 0

    async def test_it_rejects_if_it_shall(self, far: FarEnd) -> None:
        wait = Wait(reject=486)
        far.turn_to(await wait.port())
        far.invite(sdp=far.sdp())
        assert (await far.responds(1, "INVITE")).status == 486
        interrupt()
        assert await wait.code() == 0

    async def test_it_registers_and_unregisters(self, far: FarEnd) -> None:
        wait = Wait(Account(f"sip:alice@{far.shown}", None, "correct horse"))
        request = await far.asked("REGISTER")
        far.answer(request, 200, contact=request["contact"])
        await until(lambda: "200 Whatever" in wait.messages(), "it is registered")
        interrupt()
        last = await far.asked("REGISTER", 2)
        assert last["expires"] == "0"
        far.answer(last, 200)
        assert await wait.code() == 0

    async def test_refused_it_says_so_and_ends(self, far: FarEnd) -> None:
        account = Account(f"sip:alice@{far.shown}", None, "correct horse")
        wait = Wait(account)
        far.answer(await far.asked("REGISTER"), 403, "Forbidden")
        assert await wait.code() == NOT_REGISTERED
        assert wait.lines[-1] == "Not registered: 403 Forbidden"
        assert "correct horse" not in repr(account)
