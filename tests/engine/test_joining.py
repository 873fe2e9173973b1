"""`join`, `leave`, `hold`, `mute` and what the far ends do to calls that hear each other."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Action, Answer, Dial, Hold, Join, Leave, Mute, Park, Target, Unhold, Unmute
from bridge.calls.facts import ActionId, CallId
from bridge.engine.effects import CommandAccepted, CommandRefused
from bridge.engine.inputs import DtmfHeard
from bridge.rtp.rules import Rule
from tests.engine.callee import Callee
from tests.engine.test_dialing import party_of, told
from tests.engine.world import World, answered, request, sdp


def two_answered(*, second: str | None = None) -> tuple[World, CallId, CallId]:
    """Two callers, each answered, each in a conversation of its own."""
    world = answered()
    one = world.call_id
    world.packet(request("INVITE", "c2", sdp=second or sdp(4100)))
    world.ack("c2")
    other = next(CallId(call) for call in world.stored_calls() if call != one)
    return world, one, other


def joined() -> tuple[World, Callee, CallId]:
    """A caller and a party that hear each other."""
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.invite()
    bob.answer(200)
    world.ack()
    return world, bob, party_of(world)


def rule(world: World, call: CallId) -> Rule:
    found = world.ports[call]
    assert found is not None
    return found


def test_two_calls_are_joined_in_one_conversation() -> None:
    world, one, other = two_answered()
    (action,) = world.ask(Join(call_id=other))
    assert (rule(world, one).relay_to, rule(world, other).relay_to) == (other, one)
    for call in (one, other):
        joined_event = next(
            body["data"] for body in world.bodies if body["type"] == "call.joined" and body["data"]["call_id"] == call
        )
        assert joined_event["caused_by"] == action
    conversations = list(world.node.conversations())
    assert len(conversations) == 1
    assert set(conversations[0].legs) == {one, other}
    stored = world.keyspace.conversation(conversations[0].id)
    assert stored is not None
    assert set(stored[1]) == {one, other}
    world.bye()
    world.bye("c2")
    assert told(world).count("call.ended") == 2
    world.advance(64.0)
    assert world.leftovers() == {}


def a_join_that_waits() -> tuple[World, CallId, CallId, ActionId]:
    """The other call is being put on hold, and so cannot be joined yet."""
    world, one, other = two_answered()
    world.command(Hold(), call=other)
    answer = world.command(Join(call_id=other), Mute(), listed=True, call=one)
    assert isinstance(answer, CommandAccepted)
    return world, one, other, answer.action_ids[0]


def test_a_join_with_a_call_that_ends_before_it_has_failed() -> None:
    world, one, _, join = a_join_that_waits()
    world.bye("c2")
    failed = world.told("action.failed")
    assert (failed["call_id"], failed["caused_by"], failed["code"]) == (one, join, "ended")
    assert world.told("action.completed")["action"] == "mute", "the list goes on"


def test_a_join_that_another_has_come_before_is_canceled() -> None:
    world, one, _, join = a_join_that_waits()
    world.invite("c3", sdp=sdp(4200))
    world.ack("c3")
    third = CallId(world.told("call.answered")["call_id"])
    world.command(Join(call_id=one), call=third)
    canceled = world.told("action.canceled")
    assert (canceled["call_id"], canceled["caused_by"]) == (one, join)
    assert world.told("call.joined")["peer_call_id"] in {one, third}


def test_one_leaves_and_both_stay_up() -> None:
    world, one, other = two_answered()
    world.ask(Join(call_id=other))
    world.ask(Leave())
    assert told(world, one)[-1] == "call.left"
    assert told(world, other)[-1] == "call.left"
    assert rule(world, one).relay_to is None
    assert len(list(world.node.conversations())) == 2
    world.bye()
    assert told(world).count("call.ended") == 1
    world.bye("c2")
    world.advance(64.0)
    assert world.leftovers() == {}


def test_the_other_stays_unless_it_shall_end_too() -> None:
    world, _, _ = two_answered()
    world.ask(Join(call_id=two_ids(world)[1], end_with_peer=True))
    world.bye()
    assert [each.method for each in world.requests("BYE")] == ["BYE"]
    assert told(world).count("call.ended") == 2


def two_ids(world: World) -> list[CallId]:
    one = world.call_id
    return [one, *[call for call in world.stored_calls() if call != one]]


def test_a_codec_that_only_one_speaks_is_offered_to_the_other() -> None:
    world, one, other = two_answered(second=sdp(4100, formats="8 101"))
    world.ask(Join(call_id=other))
    (offered,) = world.requests("INVITE")
    assert b"PCMA" in offered.body
    assert b"PCMU" not in offered.body
    world.packet(reply(offered, 200, sdp(4000, formats="8 101")))
    assert told(world).count("call.joined") == 2
    assert rule(world, one).relay_to == other


def test_no_codec_in_common() -> None:
    world, _, other = two_answered(second=sdp(4100, formats="8 101"))
    (action,) = world.ask(Join(call_id=other))
    for _ in range(2):
        world.packet(reply(world.requests("INVITE")[-1], 488))
    failed = world.told("action.failed")
    assert (failed["code"], failed["caused_by"]) == ("no_common_codec", action)
    assert "call.joined" not in told(world)


def reply(given: object, status: int, body: str = "") -> str:
    """The caller's answer to a re-INVITE of ours."""
    message = given
    headers = message.headers  # type: ignore[attr-defined]
    kind = "Content-Type: application/sdp\r\n" if body else ""
    return (
        f"SIP/2.0 {status} Whatever\r\nVia: {headers.get('Via')}\r\nFrom: {headers.get('From')}\r\nTo: {headers.get('To')}\r\n"
        f"Call-ID: {headers.get('Call-ID')}\r\nCSeq: {headers.get('CSeq')}\r\nContact: <sip:caller@192.0.2.1:5062>\r\n"
        f"{kind}Content-Length: {len(body)}\r\n\r\n{body}"
    )


@pytest.mark.parametrize(
    ("action", "code"),
    [(Join(call_id="call_nobody"), "not_found"), (Join(call_id="self"), "invalid")],
)
def test_what_cannot_be_joined(action: Join, code: str) -> None:
    world = answered()
    wanted = Join(call_id=world.call_id) if action.call_id == "self" else action
    world.ask(wanted)
    assert world.told("action.failed")["code"] == code


def test_hold_and_unhold() -> None:
    world = answered()
    (held,) = world.ask(Hold())
    offered = world.requests("INVITE")[-1]
    assert b"a=sendonly" in offered.body
    world.packet(reply(offered, 200, sdp(4000, direction="recvonly", formats="0 101")))
    assert world.told("action.completed")["caused_by"] == held
    (resumed,) = world.ask(Unhold())
    again = world.requests("INVITE")[-1]
    assert b"a=sendrecv" in again.body
    world.packet(reply(again, 200, sdp(4000, formats="0 101")))
    assert world.told("action.completed")["caused_by"] == resumed
    assert told(world) == ["call.incoming", "call.answered", "action.completed", "action.completed"]


def test_glare_is_tried_again() -> None:
    world = answered()
    world.ask(Hold())
    world.packet(reply(world.requests("INVITE")[-1], 491))
    world.advance(2.1)
    assert len(world.requests("INVITE")) == 2
    world.packet(reply(world.requests("INVITE")[-1], 200, sdp(4000, direction="recvonly", formats="0 101")))
    assert told(world)[-1] == "action.completed"


def test_a_refused_hold_changes_nothing() -> None:
    world = answered()
    world.ask(Hold())
    world.packet(reply(world.requests("INVITE")[-1], 488))
    assert world.told("action.failed")["code"] == "refused"
    assert world.call.on_hold is False
    world.ask(Hold())  # and may be asked for again


def test_their_reinvite_while_ours_is_under_way() -> None:
    world = answered()
    world.ask(Hold())
    world.reinvite()
    assert world.statuses[-1] == 491


def test_their_reinvite_with_the_number_of_ours() -> None:
    world = answered()
    world.ask(Hold())
    world.packet(reply(world.requests("INVITE")[-1], 200, sdp(4000, direction="recvonly", formats="0 101")))
    world.ask(Unhold())
    ours = world.requests("INVITE")[-1]
    world.reinvite(sequence=ours.cseq.number)
    assert world.statuses[-1] == 491
    world.packet(reply(ours, 200, sdp(4000, formats="0 101")))
    assert told(world)[-1] == "action.completed"


def test_nobody_answers_a_reinvite() -> None:
    world = answered()
    world.ask(Hold())
    world.advance(33.0)
    assert world.ended["reason"] == "unreachable"


def test_mute_is_ours_alone() -> None:
    world, bob, _ = joined()
    world.ask(Mute())
    assert rule(world, world.call_id).muted
    world.ask(Unmute())
    assert not rule(world, world.call_id).muted
    assert bob.methods == ["INVITE", "ACK"]
    assert told(world, world.call_id)[-2:] == ["action.completed", "action.completed"]


def test_what_acts_beside_a_dial_leaves_it_alone() -> None:
    world, bob, _ = joined()
    world.ask(Mute())
    assert "action.canceled" not in told(world)
    bob.bye()
    assert told(world).count("call.ended") == 2


def test_a_key_is_told() -> None:
    world = answered()
    world.give(DtmfHeard(world.call_id, "5", 120))
    data = world.told("call.dtmf")
    assert (data["digit"], data["duration_ms"], data["method"]) == ("5", 120, "rfc4733")


def test_a_key_in_info_is_told_too() -> None:
    world = answered()
    world.within("INFO", sdp="Signal=5\r\nDuration=250\r\n", kind="application/dtmf-relay")
    data = world.told("call.dtmf")
    assert (data["digit"], data["duration_ms"], data["method"]) == ("5", 250, "info")
    assert world.responses(200, "INFO")
    world.within("INFO", sequence=3)
    world.within("INFO", sequence=4, sdp="Signal=?", kind="application/dtmf-relay")
    world.within("INFO", sequence=5, sdp="x", kind="text/plain")
    assert [each.status for each in world.responses(method="INFO")] == [200, 200, 400, 415]
    assert told(world).count("call.dtmf") == 1


@pytest.mark.parametrize("action", [Leave(), Dial(to=(Target("sip:x@192.0.2.9"),))])
def test_what_does_not_fit(action: Action) -> None:
    world, _, _ = joined() if isinstance(action, Dial) else (answered(), None, None)
    said = world.command(action)
    assert isinstance(said, CommandRefused)
    assert said.code == "wrong_state"


def test_dial_after_answer_offers_the_codec_that_is_spoken() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Answer(), Dial(to=(Target(bob.uri),)))
    world.invite()
    assert bob.got == []
    world.ack()
    assert b"RTP/AVP 0" in bob.invite.body
    bob.answer(200)
    assert told(world).count("call.joined") == 2


def test_a_party_that_answers_in_another_codec() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Answer(), Dial(to=(Target(bob.uri),)))
    world.invite()
    world.ack()
    bob.answer(200, offer=sdp(5000, address=bob.host, formats="8 101"))
    offered = world.requests("INVITE")[-1]
    assert b"PCMA" in offered.body
    world.packet(reply(offered, 200, sdp(4000, formats="8 101")))
    assert told(world).count("call.joined") == 2


def test_a_new_list_gives_up_a_party_that_is_still_sought() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.invite()
    bob.answer(180)
    world.ask(Park())
    assert bob.methods == ["INVITE", "CANCEL"]
    assert "action.canceled" in told(world, world.call_id)
    assert told(world, party_of(world))[-1] == "call.ended"


def test_joined_calls_outlive_their_process() -> None:
    world, bob, party = joined()
    heir = world.restart()
    bob.world = heir
    assert rule(heir, heir.call_id).relay_to == party
    bob.bye()
    assert told(heir).count("call.ended") == 2
    assert heir.ended["reason"] == "peer_ended"


VIDEO = "m=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"


def test_a_picture_is_passed_on_where_both_have_one() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.invite(sdp=sdp() + VIDEO)
    assert b"m=video 20100 RTP/AVP 96" in bob.invite.body
    theirs = sdp(5000, address=bob.host, formats="0 101") + VIDEO.replace("4002", "5002").replace("96", "97")
    bob.answer(200, offer=theirs)
    assert b"m=video 20100 RTP/AVP 96" in world.last(200).body
    world.ack()
    party = party_of(world)
    ours, bobs = rule(world, CallId(f"{world.call_id}/video")), rule(world, CallId(f"{party}/video"))
    assert (ours.relay_to, bobs.relay_to) == (f"{party}/video", f"{world.call_id}/video")
    assert dict(ours.payload_map)[96] == 97
    heir = world.restart()
    bob.world = heir
    heir.bye()
    heir.advance(64.0)
    assert heir.leftovers() == {}


def test_a_party_without_a_picture_is_heard_all_the_same() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.invite(sdp=sdp() + VIDEO)
    bob.answer(200, offer=sdp(5000, address=bob.host, formats="0 101") + "m=video 0 RTP/AVP 96\r\n")
    assert b"m=video 0 " in world.last(200).body
    world.ack()
    assert told(world).count("call.joined") == 2
    world.bye()
    world.advance(64.0)
    assert world.leftovers() == {}
