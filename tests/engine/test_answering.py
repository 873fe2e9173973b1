"""From the INVITE to the ACK, as the caller and the application see it."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Answer, Hangup, Reject, Ring
from bridge.engine.effects import ClosePorts, Noted, OpenPorts
from tests.engine.world import ANSWER, OFFER, UNUSABLE, World, answered, request, sdp


def test_an_answered_call_is_three_webhooks_and_four_writes() -> None:
    world = answered()
    world.bye()
    assert world.statuses == [100, 200]
    assert len(world.responses(200, "BYE")) == 1
    assert world.types == ["call.incoming", "call.answered", "call.ended"]
    assert [body["data"]["sequence"] for body in world.bodies] == [1, 2, 3]
    assert world.ended == {"by": "remote", "reason": "hangup", "sip_code": None, "sip_reason": None, "q850": None}
    assert len(world.commits) == 4


def test_the_log_can_tell_the_story() -> None:
    world = answered()
    world.advance(2.0)
    world.bye()
    noted = [effect for effect in world.effects if isinstance(effect, Noted)]
    assert [(effect.event, effect.call) for effect in noted] == [
        ("call_incoming", world.call_id),
        ("call_answered", world.call_id),
        ("call_ended", world.call_id),
    ]
    assert dict(noted[2].facts) == {"by": "remote", "reason": "hangup", "duration_s": 2.0}


def test_when_all_is_over_nothing_is_left() -> None:
    world = answered()
    world.bye()
    world.advance(33.0)
    assert world.leftovers() == {}


def test_what_an_application_learns_about_the_caller() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite(extra="X-Ticket: 7\r\nSubject: help\r\nOrganization: none of our business\r\nUser-Agent: phone/1\r\n")
    incoming = world.told("call.incoming")
    assert incoming["request"]["uri"] == "sip:100@192.0.2.10"
    assert incoming["request"]["codecs"] == ["PCMU/8000", "PCMA/8000", "telephone-event/8000"]
    assert incoming["request"]["headers"] == {"X-Ticket": ["7"], "Subject": ["help"]}
    call = incoming["call"]
    assert (call["state"], call["direction"], call["application"]) == ("initiated", "inbound", "front-desk")
    assert call["early_media"] is False
    assert call["from"]["display_name"] == "Caller"
    assert call["source"] == {"address": "192.0.2.1:5062", "transport": "udp"}
    assert call["sip"]["user_agent"] == "phone/1"


def test_the_200_carries_our_media_and_what_the_application_adds() -> None:
    world = World()
    world.reply = (Answer(headers={"X-Queue": ("a", "b")}),)
    world.invite()
    accepted = world.last(200)
    assert b"m=audio 20000 RTP/AVP 0 101" in accepted.body
    assert accepted.headers.get("Contact") == "<sip:192.0.2.10:5060>"
    assert accepted.headers.lines("X-Queue") == ["a", "b"]
    rule = world.ports[world.call_id]
    assert rule is not None
    assert (rule.remote_host, rule.remote_port, rule.silence_payload_type) == ("192.0.2.1", 4000, 0)


def test_the_application_is_told_what_came_of_its_answer() -> None:
    world = World()
    world.reply = ()
    world.invite()
    (asked,) = world.ask(ANSWER)
    world.ack()
    assert world.told("call.answered")["caused_by"] == asked


def test_the_200_is_repeated_until_its_ack_comes() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    world.advance(10.0)
    assert world.times(200) == [0.0, 0.5, 1.5, 3.5, 7.5]
    assert len({message.encode() for message in world.responses(200)}) == 1
    world.ack()
    world.advance(20.0)
    assert len(world.times(200)) == 5


def test_a_repeated_invite_is_nothing_new() -> None:
    world = World()
    world.invite()
    world.invite()
    assert len(world.commits) == 1
    assert world.statuses == [100, 100]


def test_repeated_acks_and_byes_change_nothing() -> None:
    world = answered()
    world.ack()
    world.bye()
    world.bye()
    assert world.types == ["call.incoming", "call.answered", "call.ended"]
    assert len(world.responses(200, "BYE")) == 2


def test_without_an_ack_the_call_ends_by_bye() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    world.advance(31.9)
    assert world.requests("BYE") == []
    world.advance(0.2)
    assert len(world.requests("BYE")) == 1
    assert (world.ended["by"], world.ended["reason"]) == ("network", "ack_timeout")
    assert world.types == ["call.incoming", "call.ended"]
    assert world.told("call.ended")["caused_by"] is not None
    world.advance(100.0)
    assert world.leftovers() == {}


def test_a_bye_before_the_ack_ends_the_call() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    world.bye()
    assert (world.ended["by"], world.ended["reason"]) == ("remote", "hangup")
    assert world.types == ["call.incoming", "action.canceled", "call.ended"]
    repeated = len(world.responses(200))
    world.ack()
    world.advance(40.0)
    assert len(world.responses(200)) == repeated
    assert world.leftovers() == {}


def test_a_bye_in_the_early_dialog_is_a_cancel() -> None:
    world = World()
    world.reply = ()
    world.invite()
    world.bye()
    assert world.statuses == [100, 180, 487]
    assert len(world.responses(200, "BYE")) == 1
    assert world.ended["reason"] == "canceled"


def test_a_bye_with_a_foreign_from_tag_is_not_of_the_early_dialog() -> None:
    world = World()
    world.reply = ()
    world.invite()
    world.bye(from_tag="somebody-else")
    assert len(world.responses(481, "BYE")) == 1
    assert world.statuses == [100, 180]


# A hang-up that has to wait for the ACK (§15)


def test_a_hangup_before_the_ack_waits_for_it() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    (asked,) = world.ask(Hangup())
    world.advance(1.0)
    assert world.requests("BYE") == []
    world.ack()
    assert len(world.requests("BYE")) == 1
    assert world.types == ["call.incoming", "call.answered", "call.ended"]
    assert world.told("call.ended")["caused_by"] == asked
    assert (world.ended["by"], world.ended["reason"]) == ("local", "hangup")


def test_a_hangup_whose_ack_never_comes_is_told_by_the_end_all_the_same() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    (asked,) = world.ask(Hangup())
    world.advance(33.0)
    assert len(world.requests("BYE")) == 1
    assert world.ended["reason"] == "ack_timeout"
    assert world.told("call.ended")["caused_by"] == asked
    assert world.told("action.canceled")["action"] == "answer"


def test_a_second_hangup_takes_the_place_of_the_first() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    (first,), (second,) = world.ask(Hangup()), world.ask(Hangup())
    world.ack()
    assert world.told("action.canceled")["action_id"] == first
    assert world.told("call.ended")["caused_by"] == second


def test_a_hangup_while_the_200_is_being_written_refuses_the_call_instead() -> None:
    world = World()
    world.invite()
    world.committing = False
    world.decide(ANSWER)
    world.command(Hangup())
    world.commit_all()
    assert world.statuses == [100, 480]
    assert world.ended["reason"] == "hangup"
    assert world.ports == {}


# Offers and answers


def test_a_delayed_offer_is_answered_by_the_ack() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite(sdp=None)
    assert b"m=audio 20000 RTP/AVP 0 8 101" in world.last(200).body
    world.ack(sdp=sdp(4444, formats="8 101"))
    assert world.types == ["call.incoming", "call.answered"]
    assert world.told("call.answered")["call"]["media"]["codec"] == "PCMA/8000"
    rule = world.ports[world.call_id]
    assert rule is not None
    assert rule.remote_port == 4444


@pytest.mark.parametrize("body", [None, "this is no SDP", UNUSABLE], ids=["none", "nonsense", "no codec"])
def test_a_delayed_offer_without_a_usable_answer_ends_the_call(body: str | None) -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite(sdp=None)
    world.ack(sdp=body)
    assert len(world.requests("BYE")) == 1
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "not_acceptable")
    assert "call.answered" not in world.types


@pytest.mark.parametrize(
    ("body", "warning"),
    [(UNUSABLE, "305 bridge "), (sdp(address="233.252.0.1/127"), "330 bridge ")],
    ids=["no codec", "multicast"],
)
def test_an_offer_that_cannot_be_met_gets_488_with_a_warning(body: str, warning: str) -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite(sdp=body)
    refused = world.last(488)
    assert (refused.headers.get("Warning") or "").startswith(warning)
    assert (world.ended["by"], world.ended["reason"], world.ended["sip_code"]) == ("policy", "not_acceptable", 488)
    assert world.ports == {}


def test_an_offer_that_cannot_be_read_makes_no_call() -> None:
    world = World()
    world.invite(sdp="v=0\r\nnonsense")
    assert world.statuses == [400]
    assert world.commits == []


def test_a_body_that_need_not_be_understood_is_no_offer() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite(sdp="<xml/>", kind="application/xml", extra="Content-Disposition: session;handling=optional\r\n")
    assert b"m=audio 20000 RTP/AVP 0 8 101" in world.last(200).body


# Ports


def test_no_port_left_is_a_service_that_is_full() -> None:
    world = World()
    world.ports_left = False
    world.reply = (ANSWER,)
    world.invite()
    assert world.last(503).headers.get("Retry-After") == "10"
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "overload")


def test_ports_that_open_after_the_caller_has_gone_are_closed_again() -> None:
    world = World()
    world.opening = False
    world.reply = (ANSWER,)
    world.invite()
    world.cancel()
    assert world.types == ["call.incoming", "action.canceled", "call.ended"]
    world.open_ports()
    assert world.ports == {}
    world.advance(40.0)
    assert world.leftovers() == {}


def test_ports_are_asked_for_once_and_given_back_once() -> None:
    world = answered()
    world.bye()
    asked = [type(effect) for effect in world.effects if isinstance(effect, OpenPorts | ClosePorts)]
    assert asked == [OpenPorts, ClosePorts]


# Before the answer


def test_ring_then_answer() -> None:
    world = World()
    world.reply = (Ring(), ANSWER)
    world.invite()
    world.ack()
    assert world.statuses == [100, 180, 200]
    assert world.types == ["call.incoming", "action.completed", "call.answered"]
    tags = {message.to_tag for message in world.responses() if message.status > 100}
    assert len(tags) == 1
    assert world.last(180).headers.get("Contact") == "<sip:192.0.2.10:5060>"


def test_reject() -> None:
    world = World()
    world.reply = (Reject(code=486, reason="Not Now"),)
    world.invite()
    assert (world.last(486).reason, world.statuses) == ("Not Now", [100, 486])
    assert (world.ended["by"], world.ended["reason"], world.ended["sip_reason"]) == ("local", "busy", "Not Now")
    world.packet(request("ACK", branch="z9hG4bK-c1-1-INVITE", to_tag=world.tag()))
    world.advance(40.0)
    assert len(world.responses(486)) == 1
    assert world.leftovers() == {}


def test_a_refusal_is_repeated_until_its_ack_comes() -> None:
    world = World()
    world.reply = (Reject(),)
    world.invite(sdp=OFFER)
    world.advance(8.0)
    assert world.times(480) == [0.0, 0.5, 1.5, 3.5, 7.5]
    world.advance(60.0)
    assert world.leftovers() == {}
