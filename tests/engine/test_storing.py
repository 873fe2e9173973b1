"""A store that is slow, away, or somebody else's (architecture §5, survival §1)."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Dial, Hangup, Reject, Target
from bridge.engine.commit import Release
from bridge.engine.effects import ClosePorts, Noted
from bridge.engine.inputs import CommitRefused, Committed, StoreAway, StoreBack
from tests.engine.callee import Callee
from tests.engine.world import ANSWER, OFFER, World, answered, sdp


def slow() -> World:
    """A world whose store takes its time from now on."""
    world = World()
    world.committing = False
    return world


# Slow


def test_nothing_that_depends_on_a_write_leaves_before_it() -> None:
    world = slow()
    world.reply = (ANSWER,)
    world.invite()
    assert world.sent == []
    assert world.attempts == []
    world.commit_one()  # the call
    assert world.statuses == [100]
    assert len(world.attempts) == 1
    world.commit_one()  # its 200
    assert world.statuses == [100, 200]
    world.ack()
    assert len(world.attempts) == 1
    world.commit_one()
    assert [attempt.event_type for attempt in world.attempts] == ["call.incoming", "call.answered"]


def test_a_100_leaves_after_100_ms_without_the_stores_word_and_only_once() -> None:
    world = slow()
    world.invite()
    world.advance(0.09)
    assert world.statuses == []
    world.advance(0.02)
    assert world.statuses == [100]
    world.commit_all()
    assert world.statuses == [100]


def test_a_200_that_waits_is_repeated_from_when_it_left() -> None:
    world = World()
    world.invite()
    world.committing = False
    world.decide(ANSWER)
    world.advance(1.5)
    assert 200 not in world.statuses
    world.commit_all()
    world.advance(0.6)
    assert world.times(200) == [0.0, 0.5]


def test_a_call_waits_two_seconds_for_the_store_and_no_longer() -> None:
    world = slow()
    world.invite()
    world.advance(2.1)
    assert world.statuses[:2] == [100, 503]
    assert world.last(503).headers.get("Retry-After") == "10"
    world.commit_all()
    assert world.types == ["call.incoming", "call.ended"]
    assert not any(attempt.decision for attempt in world.attempts)
    assert (world.ended["by"], world.ended["reason"]) == ("node", "store_away")


def test_a_200_waits_two_seconds_for_the_store_and_no_longer() -> None:
    world = World()
    world.invite()
    world.committing = False
    world.decide(ANSWER)
    world.advance(2.1)
    assert world.statuses[:2] == [100, 503]
    world.commit_all()
    assert 200 not in world.statuses
    assert world.ended["reason"] == "store_away"
    assert world.ports == {}
    world.advance(60.0)
    assert world.leftovers() == {}


def test_a_refusal_leaves_after_two_seconds_all_the_same() -> None:
    world = World()
    world.invite()
    world.committing = False
    world.decide(Reject(code=486))
    world.advance(1.9)
    assert world.statuses == [100]
    world.advance(0.2)
    assert world.statuses == [100, 486]
    world.commit_all()
    world.advance(60.0)
    assert world.ended["reason"] == "busy"
    assert world.leftovers() == {}


def test_a_caller_who_gives_up_while_the_store_is_away_ends_the_call_once() -> None:
    world = slow()
    world.invite()
    world.cancel()
    world.advance(5.0)
    world.commit_all()
    assert [body["type"] for _, body in world.stored_events()] == ["call.incoming", "call.ended"]


# Away


def test_with_the_store_away_new_calls_are_sent_elsewhere_and_old_ones_go_on() -> None:
    world = answered()
    world.committing = False
    world.give(StoreAway())
    world.advance(1.9)
    world.invite("c2")
    assert world.responses(503) == []
    world.advance(0.2)
    world.invite("c3")
    assert world.last(503).headers.get("Retry-After") == "10"
    assert world.call.state == "answered"
    world.give(StoreBack())
    world.commit_all()
    world.invite("c4")
    assert world.statuses[-1] == 200


def test_a_bye_is_answered_while_the_store_is_away_and_told_when_it_is_back() -> None:
    world = answered()
    world.committing = False
    world.give(StoreAway())
    world.bye()
    assert len(world.responses(200, "BYE")) == 1
    world.advance(100.0)
    assert world.types == ["call.incoming", "call.answered"]
    world.give(StoreBack())
    world.commit_all()
    assert world.types == ["call.incoming", "call.answered", "call.ended"]
    world.advance(60.0)
    assert world.leftovers() == {}


def test_events_of_an_outage_arrive_in_order() -> None:
    world = answered()
    world.committing = False
    world.give(StoreAway())
    world.advance(1.0)
    world.reinvite(sequence=2, sdp=sdp(direction="sendonly"))
    world.command(Hangup())
    world.give(StoreBack())
    world.commit_all()
    assert world.types == ["call.incoming", "call.answered", "call.held", "call.ended"]


def test_a_reinvite_is_put_off_while_the_store_is_away() -> None:
    world = answered()
    before = world.ports[world.call_id]
    world.give(StoreAway())
    world.advance(2.1)
    world.reinvite(sequence=2, sdp=sdp(5000))
    (put_off,) = world.responses(500)
    assert put_off.headers.get("Retry-After") == "10"
    assert world.ports[world.call_id] == before
    world.give(StoreBack())
    world.reinvite(sequence=3, sdp=sdp(5000))
    assert len(world.responses(200, sequence=3)) == 1


# Somebody else's


def test_early_media_that_a_cancel_has_overtaken_is_not_sent() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.invite()
    world.committing = False
    bob.answer(183, offer=sdp(5000, address=bob.host, formats="8 101"))
    world.cancel()
    world.commit_all()
    assert world.statuses == [100, 487]
    assert [body["type"] for _, body in world.stored_events()][-1] == "call.ended"


@pytest.mark.parametrize("why", ["lost", "exists"])
def test_a_call_that_is_somebody_elses_is_let_go_without_a_word(why: str) -> None:
    world = slow()
    world.invite()
    ticket = world.commits[-1].ticket
    caused = world.give(CommitRefused(ticket, why))  # type: ignore[arg-type]
    assert [type(effect) for effect in caused] == [Noted]
    world.advance(100.0)
    assert world.sent == []
    assert world.attempts == []
    world.waiting.clear()
    assert world.leftovers() == {}


def test_an_answered_call_that_is_lost_loses_its_ports_and_nothing_is_sent() -> None:
    world = answered()
    world.committing = False
    world.reinvite(sequence=2)
    caused = world.give(CommitRefused(world.commits[-1].ticket, "lost"))
    assert [type(effect) for effect in caused] == [Noted, ClosePorts]
    world.advance(200.0)
    assert world.node.carried == 0
    assert world.node.deadline() is None
    assert world.responses(sequence=2) == []


def test_a_conversation_that_another_node_has_claimed_is_lost() -> None:
    world = answered()
    world.keyspace.claim_predecessors("n1:heir", "nonce9")
    sent = len(world.sent)
    world.reinvite(sequence=2)
    assert len(world.sent) == sent
    assert world.node.carried == 0
    world.bye(sequence=3)
    assert len(world.responses(481, "BYE")) == 1


def test_a_call_whose_final_record_is_in_the_store_is_not_made_again() -> None:
    world = answered()
    world.bye()
    world.advance(40.0)
    sent = len(world.sent)
    world.invite()
    assert len(world.sent) == sent
    assert world.leftovers() == {}


def test_an_acknowledgement_that_nobody_waits_for() -> None:
    world = answered()
    assert world.give(Committed(999)) == []
    assert world.give(CommitRefused(999, "lost")) == []
    assert world.call.state == "answered"


# Older than us


def test_a_store_that_has_lost_its_data_is_given_everything_again() -> None:
    world = answered()
    world.keyspace.empty()
    world.reinvite(sequence=2, sdp=sdp(direction="sendonly"))
    whole = world.commits[-1]
    assert whole.whole
    assert whole.epoch == 2
    assert whole.calls[0].fixed is not None
    assert len(world.responses(200, sequence=2)) == 1
    assert world.types == ["call.incoming", "call.answered", "call.held"]
    heir = world.restart()
    heir.bye(sequence=3)
    assert heir.types[-1] == "call.ended"


def test_what_was_not_delivered_is_written_again_too() -> None:
    world = World()
    world.accepting = False
    world = answered(world)
    world.keyspace.empty()
    world.bye()
    assert [sequence for sequence, _ in world.stored_events()] == [2, 3]
    world.accepting = True
    while world.flying:
        world.outcome()
    assert world.types == ["call.incoming", "call.answered", "call.ended"]
    world.advance(60.0)
    assert world.leftovers() == {}


def test_everything_that_waited_leaves_after_the_rewrite() -> None:
    world = World()
    world.invite()
    world.committing = False
    world.keyspace.empty()
    world.decide(ANSWER)
    world.commit_all()
    assert world.statuses == [100, 200]
    world.ack()
    assert world.types == ["call.incoming", "call.answered"]


def test_a_failover_that_forgot_an_event_gets_it_again() -> None:
    world = World()
    world.accepting = False
    world.keyspace._history_s = 60.0
    world = answered(world)
    world.advance(5.0)
    world.reinvite(sequence=2, sdp=sdp(direction="sendonly"))
    world.ack(sequence=2)
    world.keyspace.roll_back(1.0)
    assert [sequence for sequence, _ in world.stored_events()] == [1, 2]
    world.bye(sequence=3)
    assert [body["type"] for _, body in world.stored_events()] == [
        "call.incoming",
        "call.answered",
        "call.held",
        "call.ended",
    ]


def test_an_ended_call_is_written_again_with_its_record() -> None:
    world = World()
    world.accepting = False
    world = answered(world)
    world.keyspace.empty()
    world.bye()
    assert world.keyspace.final_record(world.call_id) is not None


def test_a_call_that_a_failover_has_raised_from_the_dead_is_released_again() -> None:
    world = World()
    world.keyspace._history_s = 60.0
    world = answered(world)
    world.advance(5.0)
    world.bye()
    world.advance(1.0)
    world.give(StoreAway())
    world.keyspace.roll_back(3.0)
    assert world.stored_calls() == [world.call_id]
    assert world.keyspace.final_record(world.call_id) is None
    world.give(StoreBack())
    world.advance(60.0)
    assert world.leftovers() == {}
    assert [
        effect for effect in world.give(StoreBack()) if isinstance(effect, Release)
    ] == []  # nobody falls back so far


def test_other_conversations_never_wait() -> None:
    world = answered()
    world.invite("c2")
    world.ack("c2")
    world.committing = False
    world.reinvite(sequence=2)
    world.within("INVITE", "c2", sequence=2, sdp=OFFER)
    world.waiting.popleft()
    world.commit_one()
    assert [message.call_id for message in world.responses(200, sequence=2)] == ["c2@192.0.2.1"]
