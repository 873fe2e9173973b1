"""Session timers (RFC 4028) in a whole node: agreed on, refreshed by either side, expired, and carried on by an heir."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Hold, Target
from bridge.engine.inputs import Leased
from tests.engine.callee import Callee
from tests.engine.test_fencing import lapsed, leased, regain
from tests.engine.test_joining import reply
from tests.engine.test_originating import originate
from tests.engine.test_taking_over import ANSWERED, survivor
from tests.engine.world import ANSWER, OFFER, World, answered, request, settings

TIMER = "Supported: timer\r\n"
HELD = OFFER.replace("sendrecv", "recvonly")


def called(extra: str = "", *, asks: int | None = None) -> World:
    """A call that was answered; its INVITE said this, and we are configured to ask for that."""
    world = World(settings(plan={"session_expires_s": asks}))
    world.reply = (ANSWER,)
    world.invite(extra=extra)
    world.ack()
    return world


def calling(*, asks: int | None = None) -> tuple[World, Callee]:
    """A party that is being called."""
    world = World(settings(plan={"session_expires_s": asks}))
    bob = Callee(world)
    originate(world, Target(bob.uri))
    return world, bob


def agree(world: World, extra: str = "", *, body: str = ANSWERED) -> None:
    """The caller says 200 to our last re-INVITE."""
    text = reply(world.requests("INVITE")[-1], 200, body)
    world.packet(text.replace("Contact:", f"{extra}Contact:"))


def refuse(world: World, status: int, extra: str = "") -> None:
    world.packet(reply(world.requests("INVITE")[-1], status).replace("Contact:", f"{extra}Contact:"))


# Called


def test_who_asks_for_nothing_gets_nothing() -> None:
    world = called()
    assert "Session-Expires" not in world.last(200).headers
    assert "Require" not in world.last(200).headers
    world.advance(10_000.0)
    assert world.call.state == "answered"
    assert world.requests("INVITE") == []


def test_the_caller_refreshes() -> None:
    world = called(f"{TIMER}Session-Expires: 90;refresher=uac\r\n")
    assert world.last(200).headers.get("Session-Expires") == "90;refresher=uac"
    assert world.last(200).headers.get("Require") == "timer"
    for sequence in (2, 3, 4):
        world.advance(45.0)
        world.reinvite(sequence=sequence, extra=f"{TIMER}Session-Expires: 90;refresher=uac\r\n")
        assert world.last(200).headers.get("Session-Expires") == "90;refresher=uac"
        world.ack(sequence=sequence)
    assert world.call.state == "answered"
    assert world.types == ["call.incoming", "call.answered"]
    world.advance(61.0)
    assert len(world.requests("BYE")) == 1
    assert (world.ended["by"], world.ended["reason"]) == ("network", "session_expired")


def test_a_refresh_without_a_timer_ends_the_timer() -> None:
    world = called(f"{TIMER}Session-Expires: 90;refresher=uac\r\n")
    world.reinvite()
    world.ack(sequence=2)
    world.advance(1000.0)
    assert world.call.state == "answered"


def test_we_refresh_with_the_very_description_that_is_in_force() -> None:
    world = called(f"{TIMER}Session-Expires: 90;refresher=uas\r\n")
    world.advance(44.0)
    assert world.requests("INVITE") == []
    before = world.call.media_generation
    for count in (1, 2, 3):
        world.advance(2.0)
        refreshes = world.requests("INVITE")
        assert len(refreshes) == count
        assert refreshes[-1].body == world.last(200).body
        assert refreshes[-1].headers.get("Session-Expires") == "90;refresher=uac"
        assert refreshes[-1].headers.get("Supported") == "timer"
        agree(world, "Session-Expires: 90;refresher=uac\r\n")
        world.advance(43.5)
    assert world.call.media_generation == before
    assert world.types == ["call.incoming", "call.answered"]
    world.bye(sequence=9)
    world.advance(100.0)
    assert world.leftovers() == {}


def test_a_refresh_keeps_who_is_on_hold() -> None:
    world = called(f"{TIMER}Session-Expires: 90;refresher=uas\r\n")
    world.reinvite(sdp=OFFER.replace("sendrecv", "sendonly"), extra=f"{TIMER}Session-Expires: 90;refresher=uas\r\n")
    world.ack(sequence=2)
    assert world.call.held
    world.advance(46.0)
    assert b"a=recvonly" in world.requests("INVITE")[-1].body
    agree(world, body=ANSWERED.replace("sendrecv", "sendonly"))
    assert world.call.held
    assert world.types == ["call.incoming", "call.answered", "call.held"]


def test_a_refresh_that_is_refused_is_tried_again_and_the_session_expires() -> None:
    world = called(f"{TIMER}Session-Expires: 1800;refresher=uas\r\n")
    call = world.call
    while not call.is_over:
        if call.reoffer is not None:
            refuse(world, 500)
        world.advance(10.0)
    assert len(world.requests("INVITE")) > 2
    assert len(world.requests("BYE")) == 1
    assert world.ended["reason"] == "session_expired"


@pytest.mark.parametrize("how", ["481", "silence"])
def test_a_far_end_that_is_gone_is_found_out_by_the_refresh(how: str) -> None:
    world = called(f"{TIMER}Session-Expires: 1800;refresher=uas\r\n")
    world.advance(901.0)
    if how == "481":
        refuse(world, 481)
    else:
        world.advance(33.0)
    assert world.ended["reason"] == "unreachable"


def test_a_session_that_is_too_short() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite(extra=f"{TIMER}Session-Expires: 60\r\n")
    assert world.statuses == [422]
    assert world.last(422).headers.get("Min-SE") == "90"
    assert world.stored_calls() == []


def test_a_refresh_that_is_too_short_changes_nothing() -> None:
    world = called(f"{TIMER}Session-Expires: 90;refresher=uac\r\n")
    world.reinvite(extra=f"{TIMER}Session-Expires: 30\r\n")
    assert world.last(422).headers.get("Min-SE") == "90"
    assert world.call.session is not None


def test_a_header_that_cannot_be_read() -> None:
    world = World()
    world.invite(extra="Session-Expires: soon\r\n")
    assert world.statuses == [400]


def test_who_requires_timers_is_served() -> None:
    world = called("Require: timer\r\nSupported: timer\r\nSession-Expires: 300\r\n")
    assert world.last(200).headers.get("Session-Expires") == "300;refresher=uac"


def test_we_ask_for_it_where_configured() -> None:
    world = called(TIMER, asks=600)
    assert world.last(200).headers.get("Session-Expires") == "600;refresher=uas"
    world.advance(301.0)
    assert len(world.requests("INVITE")) == 1


def test_a_caller_that_knows_of_none_is_refreshed_all_the_same_and_may_refuse() -> None:
    world = called(asks=600)
    assert "Require" not in world.last(200).headers
    for _ in range(3):
        world.advance(301.0)
        refuse(world, 501)
    assert len(world.requests("INVITE")) == 3
    assert world.call.state == "answered"


def test_a_hold_refreshes_too() -> None:
    world = called(f"{TIMER}Session-Expires: 90;refresher=uac\r\n")
    world.advance(50.0)
    world.ask(Hold())
    assert world.requests("INVITE")[-1].headers.get("Session-Expires") == "90;refresher=uas"
    agree(world, "Session-Expires: 90;refresher=uas\r\n", body=HELD)
    world.advance(50.0)
    assert world.call.state == "answered"
    world.advance(11.0)
    assert world.ended["reason"] == "session_expired"


def test_their_refresh_crosses_ours() -> None:
    world = called(f"{TIMER}Session-Expires: 90;refresher=uas\r\n")
    world.advance(45.5)
    refuse(world, 491)
    world.advance(2.5)
    assert len(world.requests("INVITE")) == 2
    agree(world, "Session-Expires: 90;refresher=uac\r\n")
    assert world.call.reoffer is None


def test_a_refresh_that_is_too_short_for_the_far_end_is_longer_the_next_time() -> None:
    world = called(f"{TIMER}Session-Expires: 90;refresher=uas\r\n")
    world.advance(45.5)
    refuse(world, 422, "Min-SE: 300\r\n")
    again = world.requests("INVITE")[-1]
    assert len(world.requests("INVITE")) == 2
    assert again.headers.get("Session-Expires") == "300;refresher=uac"
    assert again.headers.get("Min-SE") == "300"
    agree(world, "Session-Expires: 300;refresher=uac\r\n")
    world.advance(100.0)
    assert len(world.requests("INVITE")) == 2


def test_a_far_end_that_is_never_content_is_not_asked_for_ever() -> None:
    world = called(f"{TIMER}Session-Expires: 90;refresher=uas\r\n")
    world.advance(45.5)
    for least in range(100, 110):
        refuse(world, 422, f"Min-SE: {least}\r\n")
    assert len(world.requests("INVITE")) == 3


# Calling


def test_our_invite_supports_it_and_asks_for_nothing() -> None:
    _, bob = calling()
    assert bob.invite.headers.get("Supported") == "100rel, timer"
    assert "Session-Expires" not in bob.invite.headers


@pytest.mark.parametrize(("said", "refreshes"), [("uac", 1), ("uas", 0)])
def test_the_party_says_who_refreshes(said: str, refreshes: int) -> None:
    world, bob = calling(asks=300)
    assert bob.invite.headers.get("Session-Expires") == "300"
    extra = f"Require: timer\r\nSession-Expires: 200;refresher={said}\r\n"
    bob.answer(200, extra=extra)
    world.advance(101.0)
    assert len(bob.requests("INVITE")) == 1 + refreshes
    if refreshes:
        bob.answer(200, extra=extra)
    world.advance(69.0)
    assert ("BYE" in bob.methods) == (said == "uas")


def test_a_party_that_knows_of_none_is_refreshed_where_configured() -> None:
    world, bob = calling(asks=300)
    bob.answer(200)
    world.advance(151.0)
    assert len(bob.requests("INVITE")) == 2
    bob.answer(200)
    world.advance(151.0)
    assert len(bob.requests("INVITE")) == 3


@pytest.mark.parametrize("asks", [None, 100])
def test_a_party_that_wants_longer_sessions_is_called_again(asks: int | None) -> None:
    world, bob = calling(asks=asks)
    bob.answer(422, extra="Min-SE: 600\r\n")
    first, second = bob.requests("INVITE")
    assert (second.call_id, second.cseq.number) == (first.call_id, first.cseq.number + 1)
    assert second.headers.get("Session-Expires") == "600"
    assert second.headers.get("Min-SE") == "600"
    bob.answer(200, extra="Session-Expires: 600;refresher=uac\r\n")
    assert "call.attempt_failed" not in world.types


def test_a_party_that_is_never_content_is_not_called_for_ever() -> None:
    world, bob = calling(asks=100)
    for least in range(200, 220):
        bob.answer(422, extra=f"Min-SE: {least}\r\n")
    assert len(bob.requests("INVITE")) == 6
    assert world.told("call.attempt_failed")["code"] == 422


# Lapses, crashes and heirs


def test_nothing_expires_while_the_node_is_fenced() -> None:
    """The refresh may have been refused by ourselves, so the far end is asked before the call is ended."""
    world = leased(called(f"{TIMER}Session-Expires: 90;refresher=uac\r\n"))
    lapsed(world)
    world.reinvite(extra=f"{TIMER}Session-Expires: 90;refresher=uac\r\n")
    assert world.last(500).headers.get("Retry-After") == "10"
    world.advance(200.0)
    assert world.call.state == "answered"
    assert world.requests("INVITE") == []
    regain(world)
    world.give(Leased(world.now + 1000.0))
    world.advance(1.0)
    assert len(world.requests("INVITE")) == 1
    agree(world, "Session-Expires: 90;refresher=uas\r\n")
    world.advance(50.0)
    assert world.call.state == "answered"
    world.advance(15.0)
    assert world.ended["reason"] == "session_expired"


@pytest.mark.parametrize("side", ["uac", "uas"])
def test_a_node_that_starts_again_knows_when_and_whose_turn_it_is(side: str) -> None:
    world = called(f"{TIMER}Session-Expires: 600;refresher={side}\r\n")
    world.advance(100.0)
    world = world.restart()
    world.advance(199.0)
    assert world.requests("INVITE") == []
    world.advance(2.0)
    assert len(world.requests("INVITE")) == (1 if side == "uas" else 0)
    if side == "uac":
        world.advance(600.0 - 32.0 - 301.0 + 1.0)
        assert world.ended["reason"] == "session_expired"


@pytest.mark.parametrize("side", ["uac", "uas"])
def test_a_refresh_that_nobody_was_there_for_is_made_by_whoever_comes(side: str) -> None:
    world = called(f"{TIMER}Session-Expires: 90;refresher={side}\r\n")
    world.clock.at += 300.0
    world = world.restart()
    world.advance(0.1)
    assert len(world.requests("INVITE")) == 1
    agree(world, "Session-Expires: 90;refresher=uac\r\n")
    world.advance(40.0)
    assert world.call.state == "answered"


def test_an_heir_refreshes_with_its_first_word_and_goes_on() -> None:
    heir = survivor(called(f"{TIMER}Session-Expires: 90;refresher=uas\r\n"))
    told = heir.requests("INVITE")[-1]
    assert told.headers.get("Session-Expires") == "90;refresher=uac"
    agree(heir, "Session-Expires: 90;refresher=uac\r\n")
    assert "call.recovered" in heir.types
    heir.advance(46.0)
    assert len(heir.requests("INVITE")) == 2
    agree(heir, "Session-Expires: 90;refresher=uac\r\n")
    heir.bye(sequence=9)
    heir.advance(100.0)
    assert heir.leftovers() == {}


def test_an_heir_gives_up_who_refreshes_no_more() -> None:
    heir = survivor(called(f"{TIMER}Session-Expires: 90;refresher=uac\r\n"))
    assert heir.requests("INVITE")[-1].headers.get("Session-Expires") == "90;refresher=uas"
    agree(heir, "Session-Expires: 90;refresher=uas\r\n")
    heir.advance(61.0)
    assert heir.ended["reason"] == "session_expired"


def test_an_heir_of_a_refresh_that_was_under_way() -> None:
    world = called(f"{TIMER}Session-Expires: 90;refresher=uas\r\n")
    world.advance(45.5)
    heir = survivor(world)
    assert b"m=audio 30000" in heir.requests("INVITE")[-1].body
    agree(heir, "Session-Expires: 90;refresher=uac\r\n")
    assert heir.call.state == "answered"


def test_options_name_it() -> None:
    world = World()
    world.packet(request("OPTIONS"))
    assert "timer" in (world.last(200, "OPTIONS").headers.get("Supported") or "")


def test_a_plain_call_is_stored_as_before() -> None:
    world = answered()
    stored = world.keyspace.stored_call(world.call_id)
    assert stored is not None
    assert b"session" not in stored.variable
