"""The soft phone against a far end that is a raw UDP socket."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator

import pytest

from bridge.ambient import SystemClock, SystemTokens
from bridge.errors import StartError
from bridge.phone.softphone import Phone, PhoneCall, Seen
from bridge.sip.transaction import Timers
from tests.phone.farend import FarEnd
from tests.support.phone import Message
from tests.support.waiting import until

QUICK = Timers(t1=0.005, t2=0.02, t4=0.02)  # Timers B and F after 0.32 s
PATIENT = Timers(t1=30.0, t2=30.0)  # nothing is repeated while a test runs


def _phone(timers: Timers, seen: list[Seen] | None = None) -> Phone:
    observe = None if seen is None else seen.append
    return Phone("me", clock=SystemClock(), tokens=SystemTokens(), timers=timers, observe=observe)


@pytest.fixture
async def far() -> AsyncIterator[FarEnd]:
    far = FarEnd()
    await far.open()
    yield far
    far.close()


@pytest.fixture
async def phone() -> AsyncIterator[Phone]:
    phone = _phone(PATIENT)
    await phone.open()
    yield phone
    phone.close()


@pytest.fixture
async def quick() -> AsyncIterator[Phone]:
    phone = _phone(QUICK)
    await phone.open()
    yield phone
    phone.close()


async def answered(far: FarEnd, phone: Phone, **answer: str) -> tuple[PhoneCall, Message, Message]:
    """A call that is up: the call, its INVITE, its ACK."""
    call = phone.call(far.uri)
    invite = await far.asked("INVITE")
    far.answer(invite, 200, **{"sdp": far.sdp(), **answer})
    await call.answered()
    return call, invite, await far.asked("ACK")


def version(message: Message) -> int:
    found = re.search(r"^o=\S+ \S+ (\d+)", message.body, re.MULTILINE)
    assert found is not None
    return int(found.group(1))


class TestInvite:
    async def test_it_is_whole(self, far: FarEnd, phone: Phone) -> None:
        phone.call(far.uri)
        invite = await far.asked("INVITE")
        here = f"127.0.0.1:{phone.port}"
        assert invite.start == f"INVITE {far.uri} SIP/2.0"
        assert re.fullmatch(rf"SIP/2.0/UDP {here};branch=z9hG4bK\w{{16}};rport", invite["via"])
        assert re.fullmatch(rf"<sip:me@{here}>;tag=\w+", invite["from"])
        assert invite["to"] == f"<{far.uri}>"
        assert (invite["cseq"], invite["max-forwards"]) == ("1 INVITE", "70")
        assert invite["contact"] == f"<sip:me@{here}>"
        assert (invite.media_port(), invite.direction()) == (phone.audio.port, "sendrecv")

    async def test_it_is_repeated_until_somebody_is_heard(self, far: FarEnd, quick: Phone) -> None:
        call = quick.call(far.uri)
        await until(lambda: len(far.all("INVITE")) >= 3, "it is repeated")
        assert len({raw for raw in far.raw if raw.startswith(b"INVITE")}) == 1
        assert not call.is_heard
        far.answer(await far.asked("INVITE"), 100, "Trying")
        await until(lambda: call.is_heard, "the 100 is heard")

    async def test_if_nobody_answers_at_all_it_ends_by_itself(self, far: FarEnd, quick: Phone) -> None:
        call = quick.call(far.uri)
        assert await call.answered() is None
        assert await call.over() == "timeout"
        assert await call.parted() is None
        call.hang_up()  # too late, and harmless

    @pytest.mark.parametrize(
        "uri", ["100@127.0.0.1", "tel:+4930123456", "sips:100@127.0.0.1", "sip:100@127.0.0.1;transport=tcp", ""]
    )
    async def test_what_it_cannot_call_it_says(self, phone: Phone, uri: str) -> None:
        with pytest.raises(ValueError, match=r"SIP URI|UDP"):
            phone.call(uri)


class TestAnswered:
    async def test_it_rings_and_is_answered_acknowledged_and_heard(self, far: FarEnd, phone: Phone) -> None:
        call = phone.call(far.uri)
        invite = await far.asked("INVITE")
        for status in (100, 180):
            far.answer(invite, status)
        far.answer(invite, 200, "OK", sdp=far.sdp(), contact="<sip:desk@192.0.2.9:5070>")
        response = await call.answered()
        assert response is not None
        assert (response.status, response.reason) == (200, "OK")
        ack = await far.asked("ACK")
        assert ack.start == "ACK sip:desk@192.0.2.9:5070 SIP/2.0"
        assert (ack["cseq"], ack["call-id"], ack["from"]) == ("1 ACK", invite["call-id"], invite["from"])
        assert ack.tag("to") == "far"
        assert ack["via"] != invite["via"]  # a transaction of its own (§13.2.2.4)
        await until(lambda: far.rtp >= 2, "the far end hears it")

    async def test_a_repeated_2xx_gets_the_same_ack_again(self, far: FarEnd, phone: Phone) -> None:
        _, invite, _ = await answered(far, phone)
        far.answer(invite, 200, sdp=far.sdp())
        await until(lambda: len(far.all("ACK")) == 2, "another ACK")
        assert len({raw for raw in far.raw if raw.startswith(b"ACK")}) == 1
        assert far.all("BYE") == []

    async def test_requests_in_the_dialog_follow_its_routes(self, far: FarEnd, phone: Phone) -> None:
        routes = "Record-Route: <sip:p2.example;lr>\r\nRecord-Route: <sip:p1.example;lr>\r\n"
        call, _, ack = await answered(far, phone, headers=routes)
        call.hang_up()
        for request in (ack, await far.asked("BYE")):
            assert request.all("route") == ["<sip:p1.example;lr>", "<sip:p2.example;lr>"]

    async def test_everything_that_passes_is_shown(self, far: FarEnd) -> None:
        seen: list[Seen] = []
        phone = _phone(PATIENT, seen)
        await phone.open()
        try:
            await answered(far, phone)
            assert [each.way for each in seen] == ["out", "in", "out"]
        finally:
            phone.close()

    async def test_an_answer_in_another_s_numbers_is_spoken_in_them(self, far: FarEnd, phone: Phone) -> None:
        call, _, _ = await answered(far, phone, sdp=far.sdp(formats="97", more="a=rtpmap:97 PCMA/8000\r\n"))
        assert call.negotiated is not None
        assert (call.negotiated.codec.name, call.negotiated.codec.payload_type) == ("PCMA", 97)
        await until(lambda: far.rtp, "it speaks")

    @pytest.mark.parametrize("sdp", ["", "v=0", "no-codec", "no-audio"])
    async def test_without_a_usable_answer_it_acknowledges_and_hangs_up(
        self, far: FarEnd, phone: Phone, sdp: str
    ) -> None:
        bodies = {
            "no-codec": far.sdp(formats="18"),
            "no-audio": far.sdp().replace(f"m=audio {far.rtp_port}", "m=audio 0"),
        }
        call, _, ack = await answered(far, phone, sdp=bodies.get(sdp, sdp))
        bye = await far.asked("BYE")
        assert far.came.index(ack) < far.came.index(bye)
        assert call.disagreement
        assert await call.over() == "local"
        assert phone.audio.sent == 0

    async def test_a_second_answer_from_somebody_else_is_acknowledged_and_ended(
        self, far: FarEnd, phone: Phone
    ) -> None:
        call, invite, _ = await answered(far, phone)
        far.answer(invite, 200, sdp=far.sdp(), tag="other")
        bye = await far.asked("BYE")
        far.answer(bye, 200)
        assert bye.tag("to") == "other"
        assert [ack.tag("to") for ack in far.all("ACK")] == ["far", "other"]
        far.answer(invite, 200, sdp=far.sdp(), tag="other")  # it had not heard the ACK
        await until(lambda: len(far.all("ACK")) == 3, "another ACK")
        assert len(far.all("BYE")) == 1
        assert call.dialog is not None
        assert call.dialog.remote_tag == "far"
        call.hang_up()
        await until(lambda: far.all("BYE")[-1].tag("to") == "far", "the call that is up is another")


class TestRefused:
    @pytest.mark.parametrize("status", [302, 401, 486, 503, 603])
    async def test_a_refusal_ends_it_and_is_acknowledged_in_its_transaction(
        self, far: FarEnd, phone: Phone, status: int
    ) -> None:
        call = phone.call(far.uri)
        invite = await far.asked("INVITE")
        far.answer(invite, status)
        response = await call.answered()
        assert response is not None
        assert response.status == status
        assert await call.over() == "refused"
        ack = await far.asked("ACK")
        assert (ack["via"], ack["cseq"], ack.tag("to")) == (invite["via"], "1 ACK", "far")
        far.answer(invite, status)
        await until(lambda: len(far.all("ACK")) == 2, "a repeated refusal is acknowledged again")


class TestCancel:
    async def test_it_waits_for_a_provisional_answer(self, far: FarEnd, phone: Phone) -> None:
        call = phone.call(far.uri)
        invite = await far.asked("INVITE")
        call.hang_up()
        far.answer(invite, 180)
        cancel = await far.asked("CANCEL")
        assert [message.method for message in far.came] == ["INVITE", "CANCEL"]
        assert (cancel["via"], cancel["cseq"], cancel["to"]) == (invite["via"], "1 CANCEL", invite["to"])
        assert cancel.start == invite.start.replace("INVITE", "CANCEL")
        far.answer(cancel, 200)
        far.answer(invite, 487)
        assert await call.over() == "local"
        final = await call.answered()
        assert final is not None
        assert final.status == 487

    async def test_an_answer_that_crosses_it_is_acknowledged_and_ended_by_bye(self, far: FarEnd, phone: Phone) -> None:
        call = phone.call(far.uri)
        invite = await far.asked("INVITE")
        far.answer(invite, 180)
        await until(lambda: call.is_heard, "it rings")
        call.hang_up()
        call.hang_up()  # twice is once
        far.answer(invite, 200, sdp=far.sdp())
        bye = await far.asked("BYE")
        assert [message.method for message in far.came] == ["INVITE", "CANCEL", "ACK", "BYE"]
        far.answer(bye, 200)
        assert await call.over() == "local"
        parted = await call.parted()
        assert parted is not None
        assert phone.audio.sent == 0

    async def test_if_it_is_never_answered_either_it_ends_by_itself(self, far: FarEnd, quick: Phone) -> None:
        call = quick.call(far.uri)
        far.answer(await far.asked("INVITE"), 180)
        await until(lambda: call.is_heard, "it rings")
        call.hang_up()
        assert await call.over() == "local"
        assert await call.answered() is None


class TestBye:
    async def test_ours_is_the_next_request_of_the_dialog(self, far: FarEnd, phone: Phone) -> None:
        call, invite, _ = await answered(far, phone)
        call.hang_up()
        assert await call.over() == "local"
        bye = await far.asked("BYE")
        assert (bye["cseq"], bye["from"], bye.tag("to")) == ("2 BYE", invite["from"], "far")
        far.answer(bye, 200)
        parted = await call.parted()
        assert parted is not None
        assert parted.status == 200

    async def test_one_that_nobody_answers_is_given_up(self, far: FarEnd, quick: Phone) -> None:
        call, _, _ = await answered(far, quick)
        call.hang_up()
        assert await call.parted() is None

    async def test_theirs_is_answered_and_ends_it_with_its_reason(self, far: FarEnd, phone: Phone) -> None:
        call, invite, _ = await answered(far, phone)
        far.request("BYE", invite, headers='Reason: Q.850;cause=16;text="clear"\r\n')
        assert (await far.responds(1, "BYE")).status == 200
        assert await call.over() == "remote"
        assert call.q850 == 16
        sent = phone.audio.sent
        call.hang_up()
        far.request("BYE", invite)  # a repetition: the answer was lost
        await until(lambda: len([each for each in far.came if each.status]) == 2, "it is answered again")
        assert far.all("BYE") == []
        assert phone.audio.sent == sent


class TestHold:
    async def test_hold_and_resume_are_offers_of_one_session_each_newer(self, far: FarEnd, phone: Phone) -> None:
        call, invite, _ = await answered(far, phone)
        holding = asyncio.create_task(call.hold())
        hold = await far.asked("INVITE", 2)
        assert (hold.direction(), hold["cseq"], hold.tag("to")) == ("sendonly", "2 INVITE", "far")
        far.answer(hold, 200, sdp=far.sdp(direction="recvonly"))
        held = await holding
        assert held is not None
        assert held.status == 200
        assert call.negotiated is not None
        assert call.negotiated.direction == "sendonly"
        coming_back = asyncio.create_task(call.resume())
        resume = await far.asked("INVITE", 3)
        assert resume.direction() == "sendrecv"
        far.answer(resume, 200, sdp=far.sdp())
        assert await coming_back is not None
        assert [version(each) for each in (invite, hold, resume)] == [1, 2, 3]
        assert [ack["cseq"] for ack in far.all("ACK")] == ["1 ACK", "2 ACK", "3 ACK"]

    async def test_a_far_end_that_wants_to_hear_nothing_is_told_nothing(self, far: FarEnd, phone: Phone) -> None:
        call, _, _ = await answered(far, phone)
        holding = asyncio.create_task(call.hold())
        far.answer(await far.asked("INVITE", 2), 200, sdp=far.sdp(direction="inactive"))
        await holding
        sent = phone.audio.sent
        await asyncio.sleep(0.1)  # five packets' time, in which none comes
        assert phone.audio.sent == sent

    async def test_a_refused_change_leaves_the_call_as_it_was(self, far: FarEnd, phone: Phone) -> None:
        call, _, _ = await answered(far, phone)
        holding = asyncio.create_task(call.hold())
        far.answer(await far.asked("INVITE", 2), 491)
        refused = await holding
        assert refused is not None
        assert refused.status == 491
        assert call.negotiated is not None
        assert call.negotiated.direction == "sendrecv"
        call.hang_up()
        assert (await far.asked("BYE"))["cseq"] == "3 BYE"

    @pytest.mark.parametrize("status", [408, 481])
    async def test_a_far_end_that_knows_no_such_call_is_left(self, far: FarEnd, phone: Phone, status: int) -> None:
        call, _, _ = await answered(far, phone)
        holding = asyncio.create_task(call.hold())
        far.answer(await far.asked("INVITE", 2), status)
        await holding
        await far.asked("BYE")
        assert await call.over() == "local"

    async def test_so_is_one_that_does_not_answer(self, far: FarEnd, quick: Phone) -> None:
        call, _, _ = await answered(far, quick)
        assert await call.hold() is None
        await far.asked("BYE")

    async def test_a_bye_in_the_middle_of_a_change_ends_the_waiting(self, far: FarEnd, phone: Phone) -> None:
        call, invite, _ = await answered(far, phone)
        holding = asyncio.create_task(call.hold())
        await far.asked("INVITE", 2)
        far.request("BYE", invite)
        assert await holding is None
        assert await call.over() == "remote"

    async def test_the_target_moves_with_the_answer(self, far: FarEnd, phone: Phone) -> None:
        call, _, _ = await answered(far, phone)
        holding = asyncio.create_task(call.hold())
        moved = "<sip:far@192.0.2.77:5099>"
        far.answer(await far.asked("INVITE", 2), 200, sdp=far.sdp(direction="recvonly"), contact=moved)
        await holding
        call.hang_up()
        assert (await far.asked("BYE")).start == "BYE sip:far@192.0.2.77:5099 SIP/2.0"

    async def test_only_an_answered_call_can_change_and_once_at_a_time(self, far: FarEnd, phone: Phone) -> None:
        call = phone.call(far.uri)
        with pytest.raises(ValueError, match="no answered call"):
            await call.hold()
        far.answer(await far.asked("INVITE"), 200, sdp=far.sdp())
        await call.answered()
        holding = asyncio.create_task(call.hold())
        await far.asked("INVITE", 2)
        with pytest.raises(ValueError, match="under way"):
            await call.resume()
        call.hang_up()
        assert await holding is None


class TestDelayedOffer:
    async def test_the_far_end_offers_and_the_ack_answers(self, far: FarEnd, phone: Phone) -> None:
        call = phone.call(far.uri, offers=False)
        invite = await far.asked("INVITE")
        assert invite.body == ""
        far.answer(invite, 200, sdp=far.sdp(formats="8 0"))
        ack = await far.asked("ACK")
        assert ack["content-type"] == "application/sdp"
        assert re.search(rf"^m=audio {phone.audio.port} RTP/AVP 8\r$", ack.body, re.MULTILINE)
        await until(lambda: far.rtp, "it speaks")
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(call.hold()))
        hold = await far.asked("INVITE", 2)
        assert version(hold) == version(ack) + 1

    async def test_an_offer_it_cannot_take_ends_it(self, far: FarEnd, phone: Phone) -> None:
        call = phone.call(far.uri, offers=False)
        far.answer(await far.asked("INVITE"), 200, sdp=far.sdp(formats="18"))
        await far.asked("BYE")
        assert call.disagreement is not None
        assert "No common codec" in call.disagreement


class TestAsked:
    """What comes to it that it has not asked for."""

    @pytest.mark.parametrize(
        ("method", "status"), [("OPTIONS", 200), ("INVITE", 486), ("BYE", 481), ("CANCEL", 481), ("INFO", 405)]
    )
    async def test_outside_its_call(self, far: FarEnd, phone: Phone, method: str, status: int) -> None:
        await answered(far, phone)
        far.request(method, None)
        assert (await far.responds(1, method)).status == status

    async def test_a_bye_of_another_dialog_ends_nothing(self, far: FarEnd, phone: Phone) -> None:
        call, invite, _ = await answered(far, phone)
        far.request("BYE", invite, tag="stranger")
        assert (await far.responds(1, "BYE")).status == 481
        assert call.dialog is not None
        assert call.dialog.remote_tag == "far"

    async def test_the_far_end_may_hold_and_come_back(self, far: FarEnd, phone: Phone) -> None:
        call, invite, _ = await answered(far, phone)
        far.request("INVITE", invite, 5, sdp=far.sdp(direction="sendonly"))
        held = await far.responds(5, "INVITE")
        assert (held.status, held.direction()) == (200, "recvonly")
        far.request("ACK", invite, 5, branch="ack5")
        await until(lambda: call.negotiated is not None and call.negotiated.held, "it is held")
        far.request("INVITE", invite, 6)  # without an offer: the phone makes one, and the ACK answers
        offered = await far.responds(6, "INVITE")
        assert (offered.status, offered.direction()) == (200, "sendrecv")
        heard = far.rtp
        far.request("ACK", invite, 6, branch="ack6", sdp=far.sdp())
        await until(lambda: far.rtp > heard, "it speaks again")

    async def test_what_the_far_end_changes_and_nobody_could_speak_changes_nothing(
        self, far: FarEnd, phone: Phone
    ) -> None:
        call, invite, _ = await answered(far, phone)
        far.request("INVITE", invite, 5, sdp=far.sdp(formats="18"))
        assert (await far.responds(5, "INVITE")).status == 488
        far.request("ACK", invite, 5)
        heard = far.rtp
        await until(lambda: far.rtp > heard, "it goes on")
        assert call.disagreement is None
        assert not call.is_over

    async def test_changes_that_cross_are_refused_by_both(self, far: FarEnd, phone: Phone) -> None:
        call, invite, _ = await answered(far, phone)
        holding = asyncio.create_task(call.hold())
        hold = await far.asked("INVITE", 2)
        far.request("INVITE", invite, 5, sdp=far.sdp())
        assert (await far.responds(5, "INVITE")).status == 491
        far.answer(hold, 491)
        await holding
        far.request("INVITE", invite, 4, sdp=far.sdp())
        assert (await far.responds(4, "INVITE")).status == 500  # an older number than the last one

    async def test_garbage_is_ignored(self, far: FarEnd, phone: Phone) -> None:
        call, invite, _ = await answered(far, phone)
        for garbage in (b"", b"\r\n\r\n", b"\x00\xff", b"SIP/2.0 200\r\n\r\n", b"BYE"):
            far.say(garbage)
        far.request("BYE", invite)
        assert await call.over() == "remote"


async def test_ipv6_addresses_are_in_brackets_where_sip_wants_them() -> None:
    far, phone = FarEnd("::1"), _phone(PATIENT)
    try:
        await far.open()
        await phone.open("::1")
    except (OSError, StartError):
        pytest.skip("no IPv6 here")
    try:
        call, invite, ack = await answered(far, phone)
        here = f"[::1]:{phone.port}"
        assert invite["via"].startswith(f"SIP/2.0/UDP {here};branch=")
        assert invite["contact"] == f"<sip:me@{here}>"
        assert invite["from"].startswith(f"<sip:me@{here}>;tag=")
        assert "c=IN IP6 ::1\r\n" in invite.body
        assert ack.start == f"ACK sip:far@{far.shown} SIP/2.0"
        await until(lambda: far.rtp, "the far end hears it")
        far.request("BYE", invite)
        assert await call.over() == "remote"
    finally:
        phone.close()
        far.close()


async def test_an_address_that_cannot_be_had_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(
            StartError, match=f"the phone cannot listen on 127.0.0.1, port {port}: Address already in use"
        ):
            await _phone(PATIENT).open("127.0.0.1", port)
    with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1"):
        await _phone(PATIENT).open("192.0.2.1")
