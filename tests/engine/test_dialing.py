"""`dial`: a caller's application sends it to somebody else, seen from both ends and from the application."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.calls.actions import Dial, Reject, Target
from bridge.calls.facts import CallId
from tests.engine.callee import Callee
from tests.engine.world import World, sdp, settings


def dialing(*callees: int, world: World | None = None, **how: Any) -> tuple[World, list[Callee]]:
    """A caller whose application dials these numbers."""
    world = world or World()
    found = [Callee(world, number) for number in (callees or (2,))]
    world.reply = (Dial(to=tuple(Target(each.uri) for each in found), **how),)
    world.invite()
    return world, found


def told(world: World, call: str | None = None) -> list[str]:
    """The events of one call, in order."""
    return [body["type"] for body in world.bodies if call in (None, body["data"]["call_id"])]


def party_of(world: World) -> CallId:
    """The id of the party's call."""
    return next(CallId(body["data"]["call_id"]) for body in world.bodies if body["type"] == "call.initiated")


def test_both_are_joined_and_end_together() -> None:
    world, (bob,) = dialing()
    assert bob.methods == ["INVITE"]
    bob.answer(180)
    assert world.statuses[-1] == 180
    bob.answer(200)
    assert bob.methods == ["INVITE", "ACK"]
    assert world.statuses[-1] == 200
    world.ack()
    party = party_of(world)
    assert told(world, world.call_id) == ["call.incoming", "call.answered", "call.joined"]
    assert told(world, party) == ["call.initiated", "call.ringing", "call.answered", "call.joined"]
    rules = {session: rule for session, rule in world.ports.items() if rule is not None}
    assert rules[world.call_id].relay_to == party
    assert rules[party].relay_to == world.call_id
    world.bye()
    assert bob.methods == ["INVITE", "ACK", "BYE"]
    assert told(world)[-2:] == ["call.ended", "call.ended"]
    world.advance(64.0)
    assert world.leftovers() == {}


def test_the_party_hangs_up() -> None:
    world, (bob,) = dialing()
    bob.answer(200)
    world.ack()
    bob.bye()
    assert [request.method for request in world.requests("BYE")] == ["BYE"]
    assert world.ended == {"by": "policy", "reason": "peer_ended", "sip_code": None, "sip_reason": None, "q850": None}
    assert told(world, world.call_id) == ["call.incoming", "call.answered", "call.joined", "call.ended"]


@pytest.mark.parametrize(
    ("code", "reason"), [(486, "busy"), (603, "declined"), (404, "not_found"), (500, "server_error")]
)
def test_a_failure_is_passed_on(code: int, reason: str) -> None:
    world, (bob,) = dialing()
    bob.answer(code)
    assert world.statuses[-1] == code
    assert world.ended["reason"] == reason
    party = party_of(world)
    assert told(world, party) == ["call.initiated", "call.attempt_failed", "call.ended"]


def test_the_list_goes_on_after_a_failure() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)), Reject(code=404))
    world.invite()
    bob.answer(486)
    assert world.statuses[-1] == 404


def test_the_callers_cancel_cancels_all() -> None:
    world, (bob, carol) = dialing(2, 3)
    bob.answer(180)
    world.cancel()
    assert bob.methods == ["INVITE", "CANCEL"]
    assert carol.methods == ["INVITE"]  # not before a provisional response (§9.1)
    carol.answer(100)
    assert carol.methods == ["INVITE", "CANCEL"]
    for each in (bob, carol):
        each.answer(487)
    assert told(world)[-2:] == ["call.ended", "call.ended"]
    world.advance(64.0)
    assert world.leftovers() == {}


def test_an_answer_that_crosses_the_cancel_is_acknowledged_and_ended() -> None:
    world, (bob,) = dialing()
    bob.answer(180)
    world.cancel()
    bob.answer(200)
    assert bob.methods == ["INVITE", "CANCEL", "ACK", "BYE"]
    bob.answer(200)
    assert bob.methods == ["INVITE", "CANCEL", "ACK", "BYE"]
    assert len([each for each in bob.got if each.method == "ACK"]) == 2


def test_the_first_of_several_that_answers_wins() -> None:
    world, (bob, carol) = dialing(2, 3)
    bob.answer(180)
    carol.answer(180)
    carol.answer(200)
    assert bob.methods == ["INVITE", "CANCEL"]
    assert "elsewhere" in (bob.requests("CANCEL")[0].headers.get("Reason") or "")
    bob.answer(487)
    assert "call.attempt_failed" not in told(world)
    world.ack()
    assert told(world).count("call.joined") == 2


def test_one_after_the_other() -> None:
    world, (bob, carol) = dialing(2, 3, fork="serial")
    assert carol.got == []
    bob.answer(486)
    assert carol.methods == ["INVITE"]
    carol.answer(200)
    world.ack()
    assert told(world).count("call.joined") == 2
    assert told(world).count("call.attempt_failed") == 1


def test_a_fork_answers_twice() -> None:
    world, (bob,) = dialing()
    bob.answer(200, tag="b1")
    bob.answer(200, tag="b2")
    tags = {request.to_tag for request in bob.requests("BYE")}
    assert tags == {"b2"}
    world.ack()
    bob.answer(200, tag="b1")  # repeated: its ACK was lost
    assert [each.to_tag for each in bob.got if each.method == "ACK"] == ["b1", "b2", "b1"]


def test_early_media_passes_through() -> None:
    world, (bob,) = dialing()
    bob.answer(183, offer=sdp(5000, address=bob.host, formats="8 101"))
    early = world.last(183)
    assert b"m=audio 20000 RTP/AVP 8 101" in early.body
    assert told(world, party_of(world)) == ["call.initiated", "call.early_media"]
    bob.answer(200, offer=sdp(5000, address=bob.host, formats="8 101"))
    assert world.last(200).body == early.body
    world.ack()
    assert told(world).count("call.joined") == 2


def test_silence_of_all_ends_it() -> None:
    world, _ = dialing(timeout_s=20)
    world.advance(21.0)
    assert world.statuses[-1] == 408
    assert world.ended["reason"] == "no_answer"


def test_ringing_for_too_long_is_canceled() -> None:
    world, (bob,) = dialing(timeout_s=20)
    bob.answer(180)
    world.advance(21.0)
    assert bob.methods == ["INVITE", "CANCEL"]
    assert world.statuses[-1] == 408


def test_a_redirect_is_followed() -> None:
    world, (bob,) = dialing()
    carol = Callee(world, 3)
    bob.answer(302, extra=f"Contact: <{carol.uri}>\r\n")
    assert carol.methods == ["INVITE"]
    carol.answer(200)
    world.ack()
    assert told(world).count("call.joined") == 2


def test_a_redirect_is_reported_where_that_is_wanted() -> None:
    world, (bob,) = dialing(on_redirect="report")
    bob.answer(302)
    party = party_of(world)
    assert told(world, party) == ["call.initiated", "call.attempt_failed", "call.ended"]
    ended = next(body for body in world.bodies if body["type"] == "call.ended" and body["data"]["call_id"] == party)
    assert ended["data"]["ended"]["reason"] == "redirected"


def test_a_proxy_that_is_to_be_used_gets_the_same_request() -> None:
    """§21.3.4."""
    world, (bob,) = dialing()
    proxy = Callee(world, 3)
    bob.answer(305, extra=f"Contact: <sip:{proxy.host}>\r\n")
    assert (proxy.invite.uri, proxy.invite.headers.get("Route")) == (bob.uri, f"<sip:{proxy.host};lr>")
    proxy.answer(200)
    world.ack()
    assert told(world).count("call.joined") == 2


def test_what_is_reported_names_where_to_look() -> None:
    world, (bob,) = dialing(on_redirect="report")
    bob.answer(302, extra="Contact: <sip:carol@192.0.2.3>;q=0.5\r\n")
    (failed,) = [body["data"] for body in world.bodies if body["type"] == "call.attempt_failed"]
    assert failed["contacts"] == [{"uri": bob.uri, "q": None}, {"uri": "sip:carol@192.0.2.3", "q": 0.5}]


def test_no_more_calls_than_there_may_be() -> None:
    world, (bob,) = dialing(world=World(settings(max_calls=1)))
    assert bob.got == []
    assert world.statuses[-1] == 503
    assert world.ended["reason"] == "server_error"
    failed = world.told("action.failed")
    assert (failed["action"], failed["code"]) == ("dial", "overload")
    assert failed["caused_by"] == failed["action_id"]
