"""UPDATE (RFC 3311): the far end changes its target, its timer or the session by it, and we refresh sessions by it."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Credentials, Dial, Hold, Park, Ring, Target
from bridge.engine.inputs import StoreAway
from bridge.sip.message import Request
from bridge.sip.parser import parse
from tests.engine.callee import Callee
from tests.engine.test_fencing import lapsed, leased
from tests.engine.test_joining import reply, rule
from tests.engine.test_originating import originate
from tests.engine.test_session_timers import TIMER, called
from tests.engine.test_taking_over import ANSWERED, survivor
from tests.engine.world import ANSWER, UNUSABLE, World, answered, sdp

ELSEWHERE = "<sip:caller@192.0.2.1:7777>"
TAKES_UPDATE = "Allow: INVITE, ACK, BYE, CANCEL, update\r\n"
OUR_TURN = f"{TIMER}{TAKES_UPDATE}Session-Expires: 90;refresher=uas\r\n"


def status(world: World) -> int:
    return world.responses(method="UPDATE")[-1].status


def say(world: World, code: int, extra: str = "") -> None:
    """The caller's answer to our last UPDATE."""
    world.packet(reply(world.requests("UPDATE")[-1], code).replace("Contact:", f"{extra}Contact:"))


# Theirs, in a call that is answered


def test_a_new_target_is_where_our_bye_goes() -> None:
    world = answered()
    world.within("UPDATE", contact=ELSEWHERE)
    assert world.last(200, "UPDATE").headers.get("Contact") == "<sip:192.0.2.10:5060>"
    assert "UPDATE" in (world.last(200, "UPDATE").headers.get("Allow") or "")
    assert world.call.dialog is not None
    assert world.call.dialog.remote_target == ELSEWHERE.strip("<>")
    assert world.types == ["call.incoming", "call.answered"]


def test_its_200_waits_for_the_store() -> None:
    world = answered()
    world.committing = False
    world.within("UPDATE", contact=ELSEWHERE)
    assert world.responses(method="UPDATE") == []
    world.within("UPDATE", sequence=3)
    assert status(world) == 500, "one at a time"
    assert world.last(500, "UPDATE").headers.get("Retry-After") == "3"
    world.commit_all()
    assert [each.cseq.number for each in world.responses(200, "UPDATE")] == [2]


def test_an_offer_is_answered_and_told() -> None:
    world = answered()
    world.within("UPDATE", sdp=sdp(4400))
    assert b"m=audio" in world.last(200, "UPDATE").body
    assert rule(world, world.call_id).remote_port == 4400
    world.within("UPDATE", sequence=3, sdp=sdp(4400, direction="sendonly"))
    assert b"a=recvonly" in world.last(200, "UPDATE").body
    assert world.types[-2:] == ["call.updated", "call.held"]
    world.bye(sequence=4)
    world.advance(100.0)
    assert world.leftovers() == {}


def test_an_offer_that_cannot_be_met_changes_nothing() -> None:
    world = answered()
    before = world.call.negotiated
    world.within("UPDATE", sdp=UNUSABLE)
    assert "Warning" in world.last(488, "UPDATE").headers
    world.within("UPDATE", sequence=3, sdp="v=0\r\n")
    assert status(world) == 400
    assert world.call.negotiated == before


def test_an_offer_while_ours_is_open_is_glare() -> None:
    world = answered()
    world.ask(Hold())
    world.within("UPDATE", sdp=sdp(4400))
    assert status(world) == 491
    world.within("UPDATE", sequence=3, contact=ELSEWHERE)
    assert status(world) == 200, "one that offers nothing is in order"


def test_an_offer_while_theirs_is_open_comes_too_early() -> None:
    world = answered()
    world.committing = False
    world.reinvite(sdp=sdp(4400))
    world.within("UPDATE", sequence=3, sdp=sdp(4402))
    assert world.last(500, "UPDATE").headers.get("Retry-After") == "3"


def test_an_offer_while_our_own_in_the_200_is_open_is_glare() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite(sdp=None)
    world.within("UPDATE", sdp=sdp(4400))
    assert status(world) == 491


def test_a_number_that_is_not_newer() -> None:
    world = answered()
    world.within("UPDATE", sequence=5)
    world.within("UPDATE", sequence=4)
    assert status(world) == 500


def test_a_node_without_a_lease_answers_later() -> None:
    world = lapsed(leased(answered()))
    world.give(StoreAway())
    world.within("UPDATE", sdp=sdp(4400))
    assert world.last(500, "UPDATE").headers.get("Retry-After") == "10"


def test_a_dialog_that_nobody_knows() -> None:
    world = answered()
    world.bye()
    world.within("UPDATE", sequence=3)
    assert status(world) == 481


def test_a_call_that_ends_meanwhile_leaves_nothing() -> None:
    world = answered()
    world.committing = False
    world.within("UPDATE", sdp=sdp(4400))
    world.bye(sequence=3)
    world.committing = True
    world.commit_all()
    world.advance(100.0)
    assert world.leftovers() == {}


def test_whoever_takes_the_call_over_knows_the_new_target() -> None:
    world = answered()
    world.within("UPDATE", contact=ELSEWHERE)
    heir = survivor(world)
    assert heir.requests("INVITE")[-1].uri == ELSEWHERE.strip("<>")


# Theirs, before the answer


def test_an_early_target_is_kept_for_the_call() -> None:
    world = World()
    world.reply = (Ring(), Park(timeout_s=600))
    world.invite()
    world.within("UPDATE", contact=ELSEWHERE)
    assert status(world) == 200
    world = world.restart()
    world.command(ANSWER)
    world.ack()
    assert world.call.dialog is not None
    assert world.call.dialog.remote_target == ELSEWHERE.strip("<>")
    assert world.call.state == "answered"
    world.within("UPDATE", sequence=2)
    assert status(world) == 500, "its number is known"
    world.bye(sequence=3)
    world.advance(100.0)
    assert world.leftovers() == {}


def test_an_early_offer_has_to_wait_for_the_answer_to_the_first() -> None:
    world = World()
    world.reply = (Ring(), Park(timeout_s=600))
    world.invite()
    world.within("UPDATE", sdp=sdp(4400))
    assert world.last(500, "UPDATE").headers.get("Retry-After") == "5"
    world.cancel()
    assert world.ended["reason"] == "canceled"


@pytest.mark.parametrize(("body", "code"), [("", 200), (ANSWERED, 491)], ids=["target", "offer"])
def test_a_party_that_rings(body: str, code: int) -> None:
    world = World()
    bob = Callee(world)
    originate(world, Target(bob.uri))
    bob.answer(180)
    bob.within("UPDATE", body)
    assert bob.responses[-1].status == code
    bob.answer(200)
    assert world.types[-1] == "call.answered"


def test_a_party_that_has_refused_has_no_early_dialog_any_more() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)), Park(timeout_s=600))
    world.invite()
    bob.answer(180)
    bob.answer(486)
    bob.within("UPDATE")
    assert bob.responses[-1].status == 481


# Ours


def test_who_takes_it_is_refreshed_by_it() -> None:
    world = called(OUR_TURN)
    for count in (1, 2, 3):
        world.advance(45.5)
        (*_, update) = world.requests("UPDATE")
        assert len(world.requests("UPDATE")) == count
        assert update.headers.get("Session-Expires") == "90;refresher=uac"
        assert update.headers.get("Contact") == "<sip:192.0.2.10:5060>"
        assert update.body == b""
        say(world, 200, "Session-Expires: 90;refresher=uac\r\n")
    assert world.requests("INVITE") == []
    assert world.types == ["call.incoming", "call.answered"]
    world.bye(sequence=9)
    world.advance(100.0)
    assert world.leftovers() == {}


def test_a_hold_does_not_wait_for_it() -> None:
    world = called(OUR_TURN)
    world.advance(45.5)
    world.ask(Hold())
    assert len(world.requests("INVITE")) == 1


@pytest.mark.parametrize("code", [405, 501])
def test_who_does_not_take_it_after_all_gets_a_reinvite(code: int) -> None:
    world = called(OUR_TURN)
    world.advance(45.5)
    say(world, code)
    assert len(world.requests("INVITE")) == 1


@pytest.mark.parametrize("how", ["481", "silence"])
def test_a_far_end_that_is_gone(how: str) -> None:
    world = called(OUR_TURN.replace("90", "1800"))
    world.advance(901.0)
    if how == "481":
        say(world, 481)
    else:
        world.advance(33.0)
    assert world.ended["reason"] == "unreachable"


def test_one_that_is_refused_is_tried_again_and_the_session_expires() -> None:
    world = called(OUR_TURN.replace("90", "1800"))
    call = world.call
    while not call.is_over:
        if world.requests("UPDATE"):
            say(world, 500)
        world.advance(10.0)
    assert len(world.requests("UPDATE")) > 2
    assert world.ended["reason"] == "session_expired"


def test_one_that_is_too_short_is_longer_the_next_time_but_not_for_ever() -> None:
    world = called(OUR_TURN)
    world.advance(45.5)
    for least in range(100, 110):
        say(world, 422, f"Min-SE: {least}\r\n")
    asked = [each.headers.get("Session-Expires") for each in world.requests("UPDATE")]
    assert asked == ["90;refresher=uac", "100;refresher=uac", "101;refresher=uac"]


def test_one_that_is_asked_for_credentials_brings_them() -> None:
    world = World()
    bob = Callee(world)
    originate(world, Target(bob.uri, Credentials("us", "secret")))
    bob.answer(200, extra=f"{TAKES_UPDATE}Session-Expires: 90;refresher=uac\r\n")
    world.advance(45.5)
    first = bob.requests("UPDATE")[-1]
    bob.answer(401, invite=first, extra='WWW-Authenticate: Digest realm="r", nonce="n"\r\n')
    again = bob.requests("UPDATE")[-1]
    assert 'username="us"' in (again.headers.get("Authorization") or "")
    assert again.headers.get("Session-Expires") == "90;refresher=uac"
    assert again.cseq.number == first.cseq.number + 1


def test_an_heir_goes_on_with_it() -> None:
    heir = survivor(called(OUR_TURN))
    told = reply(heir.requests("INVITE")[-1], 200, ANSWERED)
    heir.packet(told.replace("Contact:", f"{TAKES_UPDATE}Session-Expires: 90;refresher=uac\r\nContact:"))
    heir.advance(45.5)
    assert len(heir.requests("UPDATE")) == 1
    say(heir, 200, "Session-Expires: 90;refresher=uac\r\n")
    heir.bye(sequence=9)
    heir.advance(100.0)
    assert heir.leftovers() == {}


def test_the_deadline_that_it_moves_is_stored() -> None:
    world = called(OUR_TURN)
    world.advance(45.5)
    say(world, 200, "Session-Expires: 600;refresher=uac\r\n")
    world = world.restart()
    world.advance(299.0)
    assert len(world.requests("UPDATE")) == 1
    world.advance(2.0)
    assert len(world.requests("UPDATE")) == 2


def test_our_invites_name_it() -> None:
    world = World()
    bob = Callee(world)
    originate(world, Target(bob.uri))
    sent = parse(bob.invite.encode())
    assert isinstance(sent, Request)
    assert "UPDATE" in (sent.headers.get("Allow") or "")
