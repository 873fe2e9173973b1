"""Who hears whom: what two linked calls tell each other, and what is missing until they are joined."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.calls import joining
from bridge.calls.actions import Dial, Hangup, Leave, Park, Reject
from bridge.calls.call import Link, Phase
from bridge.calls.effects import Accept, JoinWith, Meet, MoveOut, OpenMedia, Respond, Seek, SendRequest, SetMedia, Tell
from bridge.calls.events import ActionCanceled, ActionFailed, CallAnswered, CallJoined, CallLeft
from bridge.calls.facts import CallId, Ended
from bridge.calls.inputs import (
    AcceptSent,
    ByeReceived,
    CancelReceived,
    CodecWanted,
    Joined,
    JoinImpossible,
    JoinRefused,
    Linked,
    MediaOpened,
    ReinviteRefused,
)
from bridge.calls.peering import PeerAnswered, PeerFailed, PeerGone, PeerMedia, PeerRinging
from tests.calls.bench import Bench, answered, ended
from tests.calls.outgoing import (
    BOB,
    DIALED,
    PEER,
    answered_and_dialing,
    answered_because,
    answered_before,
    asking_to_join,
    bobs,
    dialing,
    hears_early_media,
    hears_ringing,
    joined,
    linked_with,
    party_accepted,
    party_answered,
    party_joined,
    party_ringing,
    speaks,
)


def statuses(bench: Bench) -> list[int]:
    return [effect.response.status for effect in bench.all(Respond)]


def told(bench: Bench) -> list[object]:
    """What the other call was told."""
    assert {effect.call for effect in bench.all(Tell)} <= {PEER}
    return [effect.given for effect in bench.all(Tell)]


# A party's life, as the caller hears it


def test_a_dial_has_the_party_sought() -> None:
    bench = dialing()
    (seek,) = bench.all(Seek)
    assert (seek.dial.to, seek.action_id) == ((BOB,), bench.call.link.action_id if bench.call.link else "")
    assert bench.call.client_state is None  # it is the party's


def test_the_caller_hears_it_ring_once() -> None:
    bench = hears_ringing()
    bench.give(PeerRinging())
    assert statuses(bench) == [180]


def test_early_media_is_a_183_in_the_partys_codec() -> None:
    bench = dialing()
    bench.give(PeerMedia(speaks("8 101")))
    assert bench.all(OpenMedia)
    assert statuses(bench) == []
    bench.give(MediaOpened("192.0.2.10", 20000))
    assert statuses(bench) == [183]
    (response,) = [effect.response for effect in bench.all(Respond)]
    assert b"m=audio 20000 RTP/AVP 8 101" in response.body
    assert bench.call.early_media


def test_the_200_says_what_the_183_has_said() -> None:
    bench = hears_early_media()
    bench.give(PeerAnswered(speaks("8 101")))  # somebody else of the fork
    (accept,) = bench.all(Accept)
    (early,) = [effect.response for effect in bench.all(Respond)]
    assert accept.response.body == early.body


def test_a_caller_without_an_offer_hears_no_early_media() -> None:
    bench = Bench(sdp=None)
    bench.decide(Dial(to=(BOB,)))
    bench.give(PeerMedia(speaks()))
    assert bench.all(OpenMedia) == []
    bench.give(PeerAnswered(speaks()))
    bench.give(MediaOpened("192.0.2.10", 20000))
    (accept,) = bench.all(Accept)
    assert b"m=audio 20000" in accept.response.body


def test_the_caller_is_answered_because_the_party_is_there() -> None:
    bench = answered_because()
    assert bench.call.phase is Phase.ANSWERING
    bench.give(MediaOpened("192.0.2.10", 20000))
    bench.give(AcceptSent())
    bench.ack()
    assert any(isinstance(event, CallAnswered) for event in bench.events)
    assert Meet() in bench.effects


@pytest.mark.parametrize("make", [answered_because, answered_before])
def test_a_list_does_not_go_on_while_the_party_is_there(make: Callable[[], Bench]) -> None:
    """The ACK of the caller's 200 ends no dial."""
    bench = make()
    bench.give(MediaOpened("192.0.2.10", 20000))
    bench.give(AcceptSent())
    bench.ack()
    assert bench.call.list is not None
    assert bench.call.list.current is not None
    assert bench.call.list.current.action.name == "dial"


@pytest.mark.parametrize(
    ("code", "answered_with", "reason"),
    [
        (486, 486, "busy"),
        (603, 603, "declined"),
        (404, 404, "not_found"),
        (408, 408, "no_answer"),
        (488, 488, "not_acceptable"),
        (500, 500, "server_error"),
        # What the party has said about our own request is not passed on as if it were about the caller's
        (302, 480, "redirected"),
        (401, 403, "unauthorized"),
        (407, 403, "unauthorized"),
        (487, 480, "canceled"),
        (503, 503, "server_error"),  # our own
    ],
)
def test_what_a_caller_is_answered_when_nobody_was_had(code: int, answered_with: int, reason: str) -> None:
    bench = Bench()
    bench.decide(Dial(to=(BOB,)))
    bench.give(PeerFailed(code, "Whatever"))
    assert statuses(bench) == [answered_with]
    assert bench.call.ended is not None
    assert (bench.call.ended.sip_code, bench.call.ended.reason) == (answered_with, reason)


def test_the_list_goes_on_after_a_failure() -> None:
    bench = Bench()
    bench.decide(Dial(to=(BOB,)), Reject(code=404))
    bench.give(PeerFailed(486, "Busy Here"))
    assert statuses(bench) == [404]


def test_early_media_of_a_party_that_fails_is_heard_no_more() -> None:
    bench = hears_early_media()
    before = len(bench.all(SetMedia))
    bench.give(PeerFailed(486, "Busy Here"))
    assert len(bench.all(SetMedia)) == before + 1


# Ends


@pytest.mark.parametrize("make", [party_ringing, party_accepted, party_answered])
@pytest.mark.parametrize("gone", [True, False], ids=["the caller has ended", "the caller does something else"])
def test_a_party_that_is_not_joined_yet_is_let_go(make: Callable[[], Bench], gone: bool) -> None:
    bench = make()
    bench.give(PeerGone(ended=gone))
    ending = bench.call.ended or bench.call.hangup_wanted  # the second: once our ACK has left
    assert ending is not None
    assert ending.reason == "canceled"


@pytest.mark.parametrize(("end_with_peer", "ends"), [(True, True), (False, False)])
def test_whether_one_ends_with_the_other(end_with_peer: bool, ends: bool) -> None:
    bench = party_joined()
    assert bench.call.link is not None
    bench.call.link.end_with_peer = end_with_peer
    bench.give(PeerGone(ended=True))
    assert (bench.call.ended == Ended("policy", "peer_ended")) is ends
    assert (bench.types[-1] == "call.left") is not ends
    assert [effect.method for effect in bench.all(SendRequest)] == (["BYE"] if ends else [])


def test_one_that_is_only_left_stays_up() -> None:
    bench = party_joined()
    bench.give(PeerGone(ended=False))
    assert bench.events[-1] == CallLeft(PEER)
    assert bench.call.link is None
    assert bench.call.ended is None


def test_the_list_goes_on_when_the_party_has_left() -> None:
    bench = answered()
    bench.command(Dial(to=(BOB,), end_with_peer=False), Hangup(), listed=True)
    bench.call.link = Link(PEER, "dial", asked=True, action_id=DIALED, end_with_peer=False, joined=True)
    bench.give(PeerGone(ended=True))
    assert bench.types[-1] == "call.left"
    assert [effect.method for effect in bench.all(SendRequest)] == ["BYE"]


@pytest.mark.parametrize("make", [dialing, hears_ringing, hears_early_media, answered_because, answered_before])
def test_the_callers_end_is_the_partys(make: Callable[[], Bench]) -> None:
    bench = make()
    bench.give(CancelReceived(None))
    assert [type(given) for given in told(bench)] == [PeerGone]


@pytest.mark.parametrize("make", [dialing, answered_because, answered_before, answered_and_dialing])
def test_a_newer_list_gives_up_a_party_that_is_not_joined(make: Callable[[], Bench]) -> None:
    bench = make()
    assert bench.call.link is not None
    name = bench.call.link.action_id
    bench.command(Park())
    assert told(bench) == [PeerGone(ended=False)]
    assert bench.call.link is None
    canceled = [event for event in bench.events if isinstance(event, ActionCanceled)]
    assert ActionCanceled("dial", name) in canceled


def test_a_newer_list_leaves_a_party_alone_that_is_joined() -> None:
    bench = joined()
    bench.command(Park())
    assert told(bench) == []
    assert bench.call.is_joined


# Join and leave


def test_a_join_brings_the_other_call_here() -> None:
    bench = asking_to_join()
    (wanted,) = bench.all(JoinWith)
    assert (wanted.other, wanted.end_with_peer) == (PEER, False)
    bench.give(JoinRefused(wanted.action_id, "not_found", "nobody"))
    (failed,) = [event for event in bench.events if isinstance(event, ActionFailed)]
    assert (failed.action, failed.code) == ("join", "not_found")
    assert bench.call.list is None


def test_whoever_is_linked_anew_hears_the_other_no_more() -> None:
    bench = party_joined()
    other = CallId("call_" + "q" * 24)
    bench.give(Linked(Link(other, "join", asked=False, action_id=DIALED, end_with_peer=False), speaks()))
    assert bench.events[-1] == CallLeft(PEER)
    assert told(bench)[-1] == PeerGone(ended=False)
    assert bench.call.link is not None
    assert bench.call.link.peer == other


def test_an_unanswered_call_is_answered_to_be_joined() -> None:
    bench = Bench()
    bench.give(Linked(Link(PEER, "join", asked=False, action_id=DIALED, end_with_peer=False), speaks("8 101")))
    bench.give(MediaOpened("192.0.2.10", 20000))
    (accept,) = bench.all(Accept)
    assert b"RTP/AVP 8 101" in accept.response.body


def test_leaving_is_a_conversation_of_its_own() -> None:
    bench = joined()
    bench.command(Leave())
    assert bench.all(MoveOut)
    assert told(bench)[-1] == PeerGone(ended=False)
    assert bench.types[-1] == "call.left"


def test_a_link_with_a_call_that_is_over_is_none() -> None:
    bench = ended()
    effects = bench.give(Linked(Link(PEER, "join", asked=False, action_id=DIALED, end_with_peer=True), speaks()))
    assert effects == [Tell(PEER, PeerGone(ended=True))]


# Meeting


def pair(one: Bench, other: Bench) -> tuple[Bench, Bench]:
    """Two calls that are linked, by other names than the bench's."""
    one.call.id, other.call.id = CallId("call_" + "1" * 24), CallId("call_" + "2" * 24)
    one.call.link = Link(other.call.id, "join", asked=True, action_id=DIALED, end_with_peer=False)
    other.call.link = one.call.link.mirrored(one.call.id)
    return one, other


def meet(one: Bench, other: Bench) -> list[tuple[Bench, object]]:
    benches = {one.call.id: one, other.call.id: other}
    return [(benches[call.id], given) for call, given in joining.meet(one.call, other.call)]


def test_two_of_one_codec_are_joined_at_once() -> None:
    one, other = pair(answered(), answered())
    assert meet(one, other) == [(one, Joined(other.agreed)), (other, Joined(one.agreed))]


@pytest.mark.parametrize(
    "missing",
    ["unanswered", "re-inviting", "hanging up", "linked elsewhere", "not linked", "joined"],
)
def test_what_keeps_two_from_being_joined(missing: str) -> None:
    one, other = pair(answered(), answered())
    match missing:
        case "unanswered":
            one, other = pair(answered(), Bench())
        case "re-inviting":
            other.give(CodecWanted(speaks("8 101")))
        case "hanging up":
            one, other = pair(answered(), party_accepted())
            other.command(Hangup())
        case "linked elsewhere":
            assert other.call.link is not None
            other.call.link.peer = PEER
        case "not linked":
            other.call.link = None
        case "joined":
            for each in (one, other):
                assert each.call.link is not None
                each.call.link.joined = True
    assert meet(one, other) == []
    assert meet(other, one) == []


def test_whoever_asked_is_offered_the_other_codec_first_and_then_the_other_way_round() -> None:
    one, other = pair(answered(), answered())
    other.call.negotiated = speaks("8 101")
    ((first, given),) = meet(other, one)
    assert (first, given) == (one, CodecWanted(speaks("8 101")))
    one.give(given)  # type: ignore[arg-type]
    one.give(ReinviteRefused(488, "Not Acceptable Here", 0.5))
    ((second, given),) = meet(one, other)
    assert second is other
    other.give(given)  # type: ignore[arg-type]
    other.give(ReinviteRefused(488, "Not Acceptable Here", 0.5))
    assert [type(given) for _, given in meet(one, other)] == [JoinImpossible, JoinImpossible]


def test_what_cannot_be_joined_is_told_to_whoever_asked() -> None:
    bench = linked_with()
    bench.give(JoinImpossible("nothing in common"))
    (failed,) = [event for event in bench.events if isinstance(event, ActionFailed)]
    assert (failed.action, failed.code) == ("join", "no_common_codec")
    assert bench.call.link is None
    assert bench.call.ended is None


def test_a_party_that_cannot_be_joined_is_let_go() -> None:
    bench = party_answered()
    bench.give(JoinImpossible("nothing in common"))
    assert bench.call.ended == Ended("policy", "not_acceptable")
    assert [type(given) for given in told(bench)] == [PeerRinging, PeerAnswered]  # and no more: the caller knows


def test_joined_is_told_once() -> None:
    bench = joined()
    bench.give(Joined(speaks()))
    assert [event for event in bench.events if isinstance(event, CallJoined)] == [CallJoined(PEER)]


def test_a_joined_call_that_speaks_anew_tells_the_other() -> None:
    """Else the other's next offer would be answered in what was spoken before."""
    bench = party_joined()
    bench.reinvite(bobs(direction="sendonly"), sequence=2)
    assert isinstance(told(bench)[-1], PeerMedia)
    assert told(bench)[-1] == PeerMedia(bench.agreed)


def test_both_hang_up_at_once() -> None:
    bench = party_joined()
    bench.give(ByeReceived(None))
    bench.give(PeerGone(ended=True))
    assert bench.call.ended == Ended("remote", "hangup")
    assert [effect.method for effect in bench.all(SendRequest)] == []
