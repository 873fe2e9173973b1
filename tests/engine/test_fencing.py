"""A node whose lease is not valid begins nothing of its own accord, and lets go of what others have (survival §1)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.calls.actions import Hangup, Hold, Park, Pause, Reject, Ring
from bridge.engine.effects import CommandRefused, Dropped
from bridge.engine.inputs import Command, Leased, MediaLost, MediaTimedOut, StoreAway, StoreBack
from bridge.engine.settings import Listener
from bridge.sip.flow import Flow, Send
from tests.engine.world import ANSWER, IDENTITY, OFFER, World, answered, request, sdp, settings

LEASE_S = 2.4
TCP = Flow("tcp", "tcp:5060", "192.0.2.1", 40000)


def leased(world: World | None = None) -> World:
    world = world or World()
    world.give(Leased(world.now + LEASE_S))
    return world


def lapsed(world: World) -> World:
    """Nobody has renewed for long: the process was stopped, or the store is away."""
    world.clock.at += 30.0
    return world


def regain(world: World) -> None:
    world.give(Leased(world.now + LEASE_S))
    world.advance(0.1)


def test_new_calls_are_turned_away_while_the_store_is_away() -> None:
    world = lapsed(leased())
    world.give(StoreAway())
    world.invite()
    assert world.statuses == [503]
    world.give(StoreBack())
    regain(world)
    world.invite("c2")
    assert world.statuses[-1] != 503


def test_what_has_waited_while_we_slept_is_not_refused_but_awaited_again() -> None:
    """Another node may have answered it since; whoever still calls repeats it."""
    world = lapsed(leased())
    world.invite()
    assert world.statuses == []
    assert [effect.reason for effect in world.effects if isinstance(effect, Dropped)] == ["not_leased"]
    regain(world)
    world.invite()
    assert world.statuses == [100]


def test_a_cancel_that_has_waited_while_we_slept_is_awaited_again() -> None:
    """Else the caller hears 487 from us, and has heard 200 from whoever has its call now."""
    world = World()
    world.reply = (Ring(), Park())
    leased(world)
    world.invite()
    lapsed(world)
    world.cancel()
    assert 487 not in world.statuses
    regain(world)
    world.cancel()
    assert world.statuses[-1] == 487


def test_what_nobody_repeats_is_refused_at_once() -> None:
    listeners = {TCP.listener: Listener(TCP.listener, "192.0.2.10:5060", IDENTITY)}
    world = lapsed(leased(World(settings(listeners=listeners))))
    world.packet(request("INVITE", sdp=OFFER), TCP)
    assert world.statuses == [503]


def test_bye_is_answered_and_recorded_afterwards() -> None:
    world = lapsed(leased(answered()))
    world.committing = False
    world.bye()
    assert len(world.responses(200, "BYE")) == 1
    world.commit_all()
    assert world.ended["reason"] == "hangup"


def test_a_re_invite_comes_too_early() -> None:
    world = lapsed(leased(answered()))
    world.reinvite(sdp=sdp(5000))
    assert world.responses(500)[0].headers.get("Retry-After") is not None
    world.within("ACK", sequence=2, branch="z9hG4bK-c1-2-INVITE")
    regain(world)
    world.reinvite(sequence=3, sdp=sdp(5000))
    assert len(world.responses(200, sequence=3)) == 1


def test_rest_is_told_to_come_again() -> None:
    world = lapsed(leased(answered()))
    refused = world.command(Hangup())
    assert isinstance(refused, CommandRefused)
    assert refused.code == "store_away"
    assert not world.call.is_over


@pytest.mark.parametrize("what", ["time is up", "silence", "worker"])
def test_nobody_is_hung_up_on_until_the_call_is_known_to_be_ours(what: str) -> None:
    world = answered(World()) if what != "time is up" else pausing()
    leased(world)
    lapsed(world)
    world.committing = False
    if what == "silence":
        world.give(MediaTimedOut(world.call_id))
    elif what == "worker":
        world.give(MediaLost((world.call_id,)))
    else:
        world.advance(40.0)
    assert world.requests("BYE") == []
    world.give(Leased(world.now + LEASE_S))
    world.advance(1.0)
    assert world.requests("BYE") == [], "the store has not said yet whose it is"
    world.commit_all()
    world.advance(1.0)
    assert len(world.requests("BYE")) == 1


def pausing() -> World:
    """A call that is hung up on after half a minute."""
    world = World()
    world.reply = (ANSWER, Pause(seconds=20), Hangup())
    world.invite()
    world.ack()
    return world


def test_a_node_that_wakes_up_lets_go_of_what_others_have_and_says_nothing() -> None:
    world = leased(answered())
    lapsed(world)
    world.keyspace.claim("n2:1", "heir", "n1", world.keyspace.owned("n1"))
    before = len(world.sent)
    world.give(MediaTimedOut(world.call_id))
    world.give(Leased(world.now + LEASE_S))
    sent = [effect for effect in world.effects if isinstance(effect, Send)]
    world.advance(60.0)
    assert len(world.sent) == before
    assert [effect for effect in world.effects if isinstance(effect, Send)] == sent
    assert list(world.node.conversations()) == []
    assert world.ports == {}


def test_what_was_decided_waits_too() -> None:
    world = World()
    world.invite()
    leased(world)
    world.clock.at += 3.0  # the application still has time
    world.decide(Hangup())
    assert 480 not in world.statuses
    regain(world)
    assert world.ended["by"] == "local"


def test_a_decision_that_waits_for_a_call_of_others_is_over_with_it() -> None:
    world = leased()
    world.invite()
    lapsed(world)
    world.committing = False
    world.give(Leased(world.now + LEASE_S))
    world.decide(ANSWER)
    world.keyspace.claim_predecessors("n1:2", "another")
    world.advance(0.1)
    world.commit_all()
    assert world.node._holdings.outbox._flights == {}
    assert world.node.carried == 0


def test_a_lease_that_is_renewed_in_time_asks_for_nothing() -> None:
    world = leased(answered())
    writes = len(world.commits)
    for _ in range(10):
        world.advance(1.0)
        world.give(Leased(world.now + LEASE_S))
    assert len(world.commits) == writes


def test_a_renewal_that_took_long_takes_nothing_back() -> None:
    world = leased(answered())
    world.give(Leased(world.now - 1.0))
    world.bye()
    world.invite("c2")
    assert world.statuses[-1] != 503


def test_a_store_that_is_away_for_long_ends_no_call() -> None:
    world = World(replace(answered().settings))
    answered(world)
    leased(world)
    world.committing = False
    world.give(StoreAway())
    world.advance(20.0)
    world.give(MediaTimedOut(world.call_id))
    assert not world.call.is_over
    world.give(StoreBack())
    world.give(Leased(world.now + LEASE_S))
    world.commit_all()
    world.advance(1.0)
    assert world.ended["reason"] == "media_timeout"


def test_a_parked_call_is_parked_on() -> None:
    world = World()
    world.reply = (Park(timeout_s=10),)
    world.invite()
    leased(world)
    lapsed(world)
    world.advance(1.0)
    assert not world.call.is_over
    regain(world)
    world.advance(1.0)
    assert world.ended["by"] == "policy"


def test_an_answer_from_before_the_lapse_says_nothing() -> None:
    """It may have been under way all the while that another node took the call."""
    world = leased(answered())
    world.committing = False
    world.ask(Hold())
    lapsed(world)
    world.give(MediaTimedOut(world.call_id))
    world.give(Leased(world.now + LEASE_S))
    world.commit_one()
    world.committing = False
    assert world.requests("BYE") == []
    world.advance(0.1)
    world.commit_all()
    assert len(world.requests("BYE")) == 1


def test_who_asks_in_between_hears_that_it_is_elsewhere() -> None:
    world = leased(answered())
    lapsed(world)
    world.keyspace.claim("n2:1", "heir", "n1", world.keyspace.owned("n1"))
    world.committing = False
    world.give(Leased(world.now + LEASE_S))
    caused = world.give(Command(9, world.call_id, (Hangup(),), listed=False))
    assert [effect for effect in caused if isinstance(effect, CommandRefused)] == []
    world.advance(0.1)
    world.commit_all()
    (refused,) = [effect for effect in world.effects if isinstance(effect, CommandRefused)]
    assert (refused.request, refused.code) == (9, "not_found")


def test_a_refusal_does_not_overtake_the_answer_of_whoever_has_taken_the_call() -> None:
    world = World()
    world.invite()
    world.give(Leased(world.now + 1.0))
    world.committing = False
    world.decide(Reject(code=486))
    world.give(StoreAway())
    world.advance(20.0)
    assert {*world.statuses} == {100}, "another node may have answered it"


def test_a_caller_of_whom_the_store_knows_nothing_is_refused_as_ever() -> None:
    world = leased()
    world.committing = False
    world.invite()
    world.give(StoreAway())
    world.advance(3.0)
    assert world.statuses[-1] == 503
