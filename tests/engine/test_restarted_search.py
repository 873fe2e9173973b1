"""A process dies while its INVITEs are out: who is asked again, who is waited for, who is given up (survival §4.6)."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Dial, Hangup, Target
from tests.engine.callee import Callee
from tests.engine.test_dialing import party_of, told
from tests.engine.test_originating import CALL, calling, ended, originate
from tests.engine.world import World

LATE_S = 33.0  # more than 64·T1


def succeed(world: World, *callees: Callee, after_s: float = 1.0) -> World:
    """The process is dead for so long, and then another goes on. `callees`: who does not die."""
    world.clock.at += after_s
    heir = world.restart()
    for callee in callees:
        callee.world = heir
    return heir


def copies(bob: Callee) -> list[bytes]:
    """Every INVITE that has come, repetitions too."""
    return [each.encode() for each in bob.got if each.method == "INVITE"]


def over(world: World) -> None:
    world.advance(200.0)
    assert world.leftovers() == {}


# Asked again, or waited for


def test_what_was_sent_lately_is_sent_again_to_the_byte() -> None:
    world, bob = calling()
    heir = succeed(world, bob)
    assert len(set(copies(bob))) == 1
    assert len(copies(bob)) == 2
    bob.answer(200)
    assert heir.types == ["call.initiated", "call.answered"]


def test_what_may_be_forgotten_there_is_not_asked_again() -> None:
    """It would ring anew, long after anybody wanted that."""
    world, bob = calling()
    heir = succeed(world, bob, after_s=LATE_S)
    assert len(copies(bob)) == 1
    assert bob.methods == ["INVITE", "CANCEL"]
    assert ended(heir) == {"by": "node", "reason": "node_lost", "sip_code": 408}
    assert heir.types == ["call.initiated", "call.attempt_failed", "call.ended"]
    bob.answer(487)
    assert bob.methods == ["INVITE", "CANCEL", "ACK"]
    over(heir)


@pytest.mark.parametrize("status", [200, 486])
def test_what_rings_is_waited_for(status: int) -> None:
    """Its phone need not ring anew: whatever it says, it repeats until it is acknowledged."""
    world, bob = calling()
    bob.answer(180)
    world.advance(LATE_S)
    heir = succeed(world, bob)
    assert len(copies(bob)) == 1
    bob.answer(status)
    assert bob.methods == ["INVITE", "ACK"]
    assert heir.types[2:] == (["call.answered"] if status == 200 else ["call.attempt_failed", "call.ended"])
    if status == 200:
        heir.ask(Hangup())
    over(heir)


def test_what_rings_may_still_be_given_up() -> None:
    world, bob = calling()
    bob.answer(180)
    world.advance(LATE_S)
    heir = succeed(world, bob)
    heir.ask(Hangup())
    assert bob.methods == ["INVITE", "CANCEL"]
    bob.answer(487)
    assert ended(heir) == {"by": "local", "reason": "canceled", "sip_code": 487}
    over(heir)


def test_what_rings_is_given_up_when_its_time_is_over() -> None:
    world, bob = calling()
    bob.answer(180)
    world.advance(40.0)
    heir = succeed(world, bob)
    heir.advance(20.0)
    assert bob.methods == ["INVITE", "CANCEL"]
    assert ended(heir) == {"by": "local", "reason": "no_answer", "sip_code": 408}
    over(heir)


@pytest.mark.parametrize("dead_s", [61.0, 3600.0])
def test_what_nobody_was_there_to_end_ends_then(dead_s: float) -> None:
    world, bob = calling()
    bob.answer(180)
    heir = succeed(world, bob, after_s=dead_s)
    heir.advance(0.1)
    assert bob.methods == ["INVITE", "CANCEL"]
    assert heir.types[-1] == "call.ended"
    over(heir)


def test_the_next_target_is_asked_when_one_is_lost() -> None:
    world = World()
    bob, carol = Callee(world), Callee(world, 3)
    originate(world, Target(bob.uri), Target(carol.uri), fork="serial")
    heir = succeed(world, bob, carol, after_s=LATE_S)
    assert (bob.methods, carol.methods) == (["INVITE", "CANCEL"], ["INVITE"])
    bob.answer(487)
    carol.answer(200)
    assert heir.types == ["call.initiated", "call.attempt_failed", "call.answered"]


def test_nobody_is_asked_who_would_have_been_asked_long_ago() -> None:
    world = World()
    bob, carol = Callee(world), Callee(world, 3)
    originate(world, Target(bob.uri), Target(carol.uri), fork="serial")
    heir = succeed(world, bob, carol, after_s=3600.0)
    heir.advance(0.1)
    assert (bob.methods, carol.methods) == (["INVITE", "CANCEL"], [])
    assert heir.types[-1] == "call.ended"
    bob.answer(487)
    over(heir)


def test_a_caller_hears_what_became_of_the_party() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.invite()
    heir = succeed(world, bob, after_s=LATE_S)
    assert bob.methods == ["INVITE", "CANCEL"]
    assert heir.statuses[-1] == 408
    assert told(heir, party_of(heir))[-1] == "call.ended"


# Given up


def given_up(*, rang: bool = False) -> tuple[World, Callee]:
    """The call is over, and its INVITE has no final response."""
    world, bob = calling()
    if rang:
        bob.answer(180)
    bob.deaf = True
    world.ask(Hangup())
    assert world.types[-1] == "call.ended"
    return world, bob


@pytest.mark.parametrize("rang", [False, True], ids=["nothing heard", "ringing"])
def test_who_was_given_up_is_canceled_again(rang: bool) -> None:
    """With the same branch, and its INVITE is not repeated: a CANCEL that waits for a 1xx (§9.1) waits no longer."""
    world, bob = given_up(rang=rang)
    assert ("CANCEL" in bob.methods) is rang
    heir = succeed(world, bob)
    assert len(copies(bob)) == 1
    cancels = bob.requests("CANCEL")
    assert [each.via.branch for each in cancels] == [bob.invite.via.branch]
    bob.deaf = False
    bob.answer(487)
    assert bob.methods[-1] == "ACK"
    assert heir.types == world.types, "and nothing is told twice"
    over(heir)


def test_an_answer_that_comes_too_late_is_acknowledged_and_ended() -> None:
    world, bob = given_up(rang=True)
    heir = succeed(world, bob)
    bob.deaf = False
    bob.answer(200)
    assert bob.methods == ["INVITE", "CANCEL", "ACK", "BYE"]
    over(heir)


def test_who_never_says_a_last_word_is_forgotten() -> None:
    """§9.1: without a final response in 64·T1 the INVITE counts as canceled."""
    world, bob = given_up()
    heir = succeed(world, bob)
    over(heir)


def test_a_call_is_kept_until_its_cancel_has_an_answer() -> None:
    """It is over and told; but if this process dies now, somebody has to know whom to cancel."""
    world, bob = given_up(rang=True)
    assert world.node.call(CALL) is not None
    bob.answer(487)
    assert world.node.call(CALL) is None
    over(world)


def test_what_never_left_is_not_waited_for() -> None:
    world = World()
    bob = Callee(world)
    world.opening = False
    originate(world, Target(bob.uri))
    world.committing = False
    world.open_ports()
    world.ask(Hangup())
    world.commit_all()
    assert bob.got == []
    assert world.node.call(CALL) is None
    over(world)


def test_a_fork_that_was_lost_is_canceled_again_while_the_winner_talks() -> None:
    world = World()
    bob, carol = Callee(world), Callee(world, 3)
    originate(world, Target(bob.uri), Target(carol.uri))
    carol.deaf = True
    bob.answer(200)
    heir = succeed(world, bob, carol)
    (cancel,) = carol.requests("CANCEL")
    assert cancel.headers.get("Reason") == 'SIP;cause=200;text="Call completed elsewhere"'
    carol.answer(200)
    assert carol.methods[-2:] == ["ACK", "BYE"]
    assert heir.call.state == "answered"
    assert bob.methods == ["INVITE", "ACK"]


def test_who_was_given_up_long_ago_is_left_alone() -> None:
    world = World()
    bob, carol = Callee(world), Callee(world, 3)
    originate(world, Target(bob.uri), Target(carol.uri))
    bob.answer(200)
    heir = succeed(world, bob, carol, after_s=3600.0)
    assert carol.methods == ["INVITE"]
    heir.ask(Hangup())
    over(heir)


def test_who_has_said_a_last_word_is_left_alone() -> None:
    world = World()
    bob, carol = Callee(world), Callee(world, 3)
    originate(world, Target(bob.uri), Target(carol.uri))
    carol.answer(180)
    bob.answer(200)
    carol.answer(487)
    world.ask(Hangup(client_state="anything that is written"))
    heir = succeed(world, bob, carol)
    assert [each.method for each in carol.got].count("CANCEL") == 1
    over(heir)
