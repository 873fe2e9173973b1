"""We change the session: what is offered, what each answer makes of it, and what happens when the far end is first."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Hold, Unhold
from bridge.calls.effects import Acknowledge, ArmTimer, CallTimer, SendReinvite, SendRequest, SetMedia, Tell
from bridge.calls.events import ActionCanceled, ActionCompleted, ActionFailed
from bridge.calls.facts import Ended
from bridge.calls.inputs import ByeReceived, CodecWanted, Elapsed, ReinviteAnswered, ReinviteRefused
from bridge.calls.peering import PeerMedia
from bridge.calls.reoffering import GLARES_MOST
from bridge.sdp.description import SessionDescription, parse
from tests.calls.bench import Bench, answered, held
from tests.calls.outgoing import (
    Calling,
    after_a_glare,
    holding,
    joined,
    linked_with,
    on_hold,
    party_answered,
    response,
    speaks,
)
from tests.engine.world import sdp


def local(bench: Bench) -> SessionDescription:
    found = parse(bench.call.local_sdp or b"")
    assert isinstance(found, SessionDescription)
    return found


def version(bench: Bench) -> int:
    return int(local(bench).origin.version)


def listening(direction: str = "recvonly", formats: str = "0 101") -> ReinviteAnswered:
    return ReinviteAnswered(response(200, sdp(direction=direction, formats=formats)))


def test_hold_offers_to_send_and_not_to_hear() -> None:
    bench = holding()
    assert b"a=sendonly" in (bench.call.local_sdp or b"")
    assert SendReinvite() in bench.effects
    assert not bench.call.on_hold  # until the far end agrees
    bench.give(listening())
    assert bench.call.on_hold
    assert isinstance(bench.events[-1], ActionCompleted)
    assert Acknowledge(1) in bench.effects


def test_unhold_offers_to_hear_again() -> None:
    bench = on_hold()
    bench.command(Unhold())
    assert b"a=sendrecv" in (bench.call.local_sdp or b"")
    bench.give(listening("sendrecv"))
    assert not bench.call.on_hold


@pytest.mark.parametrize(("action", "make"), [(Hold(), on_hold), (Unhold(), answered)], ids=["hold", "unhold"])
def test_what_is_so_already_is_done(action: Hold | Unhold, make: object) -> None:
    bench: Bench = make()  # type: ignore[operator]
    before = len(bench.all(SendReinvite))
    bench.command(action)
    assert isinstance(bench.events[-1], ActionCompleted)
    assert len(bench.all(SendReinvite)) == before


def test_each_offer_is_a_new_version_of_one_session() -> None:
    bench = answered()
    seen = [local(bench).origin]
    for action in (Hold(), Unhold(), Hold()):
        bench.command(action)
        seen.append(local(bench).origin)
        bench.give(listening("recvonly" if isinstance(action, Hold) else "sendrecv"))
    assert [int(each.version) for each in seen] == [1, 2, 3, 4]
    assert len({(each.username, each.session_id, each.address) for each in seen}) == 1


@pytest.mark.parametrize("body", ["", "nonsense", sdp(formats="18")])
def test_an_answer_that_nobody_understands_ends_the_call(body: str) -> None:
    bench = holding()
    bench.give(ReinviteAnswered(response(200, body)))
    assert Acknowledge(1) in bench.effects
    assert bench.call.ended == Ended("policy", "not_acceptable")


@pytest.mark.parametrize("code", [400, 403, 415, 488, 500, 503, 600])
def test_a_refusal_leaves_the_session_as_it_was(code: int) -> None:
    """§14.1."""
    bench, twin = holding(), answered()
    bench.give(ReinviteRefused(code, "No", 0.5))
    assert bench.call.local_sdp == twin.call.local_sdp
    assert bench.call.reoffer is None
    (failed,) = [event for event in bench.events if isinstance(event, ActionFailed)]
    assert (failed.code, failed.detail) == ("refused", f"the far end answered {code} No")
    bench.command(Hold())
    assert version(bench) == 3  # no two offers bear one version


@pytest.mark.parametrize("code", [408, 481])
def test_a_far_end_that_is_gone_ends_the_call(code: int) -> None:
    """§12.2.1.2."""
    bench = holding()
    bench.give(ReinviteRefused(code, "Gone", 0.5))
    assert bench.call.ended == Ended("network", "unreachable")
    assert [effect.method for effect in bench.all(SendRequest)] == ["BYE"]


@pytest.mark.parametrize(
    ("ours", "chance", "wait"),
    [(False, 0.0, 0.0), (False, 1.0, 2.0), (False, 0.123, 0.25), (True, 0.0, 2.1), (True, 1.0, 4.0)],
)
def test_who_waits_how_long_after_a_glare(ours: bool, chance: float, wait: float) -> None:
    """§14.1: whoever made the Call-ID waits for 2.1 to 4 s, the other up to 2 s, in steps of 10 ms."""
    bench = party_answered() if ours else answered()
    bench.command(Hold())
    assert ArmTimer(CallTimer.GLARE, wait) in bench.give(ReinviteRefused(491, "Request Pending", chance))


def test_glares_do_not_go_on_for_ever() -> None:
    bench = holding()
    for _ in range(GLARES_MOST):
        bench.give(ReinviteRefused(491, "Request Pending", 0.5))
        bench.give(Elapsed(CallTimer.GLARE))
        assert bench.call.reoffer is not None
        bench.call.reoffer.sent = True
    bench.give(ReinviteRefused(491, "Request Pending", 0.5))
    assert isinstance(bench.events[-1], ActionFailed)
    assert bench.give(Elapsed(CallTimer.GLARE)) == []


def test_what_is_on_its_way_is_not_sent_again() -> None:
    bench = holding()
    assert bench.call.reoffer is not None
    bench.call.reoffer.sent = True
    assert bench.give(Elapsed(CallTimer.GLARE)) == []


def test_an_offer_that_theirs_has_overtaken_is_made_anew() -> None:
    """The session's version is ahead of ours by then (RFC 3264 §8), and so may be its codecs."""
    bench = after_a_glare()
    stale = bench.call.local_sdp
    bench.reinvite(sdp(formats="8 101"), sequence=2)
    theirs = version(bench)
    effects = bench.give(Elapsed(CallTimer.GLARE))
    assert effects == [SendReinvite()]
    assert version(bench) == theirs + 1
    assert bench.call.local_sdp != stale
    assert b"a=sendonly" in (bench.call.local_sdp or b"")
    assert bench.call.reoffer is not None
    assert bench.call.reoffer.offered == bench.call.local_sdp


def test_a_refusal_leaves_what_theirs_has_made() -> None:
    bench = after_a_glare()
    bench.reinvite(sdp(formats="8 101"), sequence=2)
    agreed = bench.call.local_sdp
    bench.give(Elapsed(CallTimer.GLARE))
    bench.give(ReinviteRefused(488, "No", 0.5))
    assert bench.call.local_sdp == agreed


def test_another_codec_keeps_its_number_and_takes_none_that_means_another() -> None:
    bench = linked_with()
    assert b"RTP/AVP 8 101" in (bench.call.local_sdp or b"")


def test_a_codec_is_asked_for_on_hold_too() -> None:
    bench = on_hold()
    bench.give(CodecWanted(speaks("8 101")))
    assert b"a=sendonly" in (bench.call.local_sdp or b"")


def test_no_second_reinvite_while_one_is_under_way() -> None:
    bench = holding()
    assert bench.give(CodecWanted(speaks("8 101"))) == []


def test_who_is_held_answers_a_hold_by_silence() -> None:
    bench = held()
    bench.command(Hold())
    bench.give(listening("inactive"))
    assert bench.call.negotiated is not None
    assert bench.call.negotiated.direction == "inactive"
    assert bench.call.on_hold
    assert bench.call.held


def test_what_changes_is_told_to_the_media_worker_and_to_the_joined_call() -> None:
    bench = joined()
    bench.command(Hold())
    effects = bench.give(listening(formats="8 101"))
    assert SetMedia() in effects
    assert [effect.given for effect in effects if isinstance(effect, Tell)] == [PeerMedia(bench.agreed)]


def test_a_call_that_ends_meanwhile_tells_the_action_and_acknowledges_the_answer() -> None:
    bench = holding()
    bench.give(ByeReceived(None))
    assert any(isinstance(event, ActionCanceled) and event.action == "hold" for event in bench.events)
    assert bench.give(listening()) == [Acknowledge(1)]
    assert bench.give(ReinviteRefused(481, "Gone", 0.5)) == []


def test_a_party_we_call_is_held_like_any_other() -> None:
    bench = party_answered()
    assert isinstance(bench, Calling)
    bench.command(Hold())
    bench.give(ReinviteAnswered(response(200, sdp(5001, address="192.0.2.2", direction="recvonly", formats="0 101"))))
    assert bench.call.on_hold
