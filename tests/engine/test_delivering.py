"""Webhooks: stored first, in order, to the end (contract §3)."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Action, Park, Ring
from bridge.engine.commit import Release
from bridge.engine.effects import Acknowledge, Noted
from bridge.outbox.effects import Endpoint
from bridge.outbox.schedule import Outcome, Schedule
from tests.engine.world import ANSWER, DOWN, HOOK, World, answered, sdp, settings

LOG = Endpoint("log", "http://log/")
ENDS = Endpoint("ends", "http://ends/", events=frozenset({"call.ended"}))


def test_an_endpoint_that_is_down_holds_up_no_call_and_gets_all_in_order() -> None:
    world = answered()
    world.down = True
    world.reinvite(sequence=2, sdp=sdp(direction="sendonly"))
    world.ack(sequence=2)
    world.reinvite(sequence=3)
    world.ack(sequence=3)
    world.bye(sequence=4)
    assert world.types == ["call.incoming", "call.answered"]
    assert world.node.backlog(HOOK.id) == 3
    world.advance(20.0)
    world.down = False
    world.advance(200.0)
    assert world.types == ["call.incoming", "call.answered", "call.held", "call.resumed", "call.ended"]
    assert world.leftovers() == {}


def test_a_failed_attempt_is_repeated_with_the_same_id_and_body() -> None:
    world = answered()
    world.accepting = False
    world.bye()
    world.outcome(Outcome(500, None, None, 0.1))
    world.advance(5.1)
    first, second = world.attempts[-2:]
    assert (first.event_id, first.body, first.attempt) == (second.event_id, second.body, 1)
    assert second.attempt == 2


def test_two_endpoints_do_not_wait_for_each_other() -> None:
    world = World(settings(endpoints=(HOOK, LOG)))
    world.accepting = False
    answered(world)
    assert [(attempt.endpoint, attempt.event_type) for attempt in world.attempts] == [
        ("front-desk.0", "call.incoming"),
        ("log", "call.incoming"),
        ("front-desk.0", "call.answered"),
    ]


def test_an_endpoint_with_a_filter_gets_what_it_wants() -> None:
    world = answered(World(settings(endpoints=(HOOK, ENDS))))
    world.bye()
    assert [(endpoint, sequence) for endpoint, _, sequence in world.received] == [
        ("front-desk.0", 1),
        ("front-desk.0", 2),
        ("front-desk.0", 3),
        ("ends", 3),
    ]
    world.advance(60.0)
    assert world.leftovers() == {}


def test_what_everybody_has_is_kept_in_memory_no_longer() -> None:
    world = answered(World(settings(endpoints=(HOOK, ENDS))))
    leg = world.node._holdings.legs[world.call_id]
    assert leg.published == {}


def test_what_only_some_have_is_kept_until_all_have_it() -> None:
    world = World(settings(endpoints=(HOOK, LOG)))
    world.reply = (ANSWER,)
    world.invite()
    world.accepting = False
    world.ack()
    world.reinvite(sequence=2, sdp=sdp(direction="sendonly"))
    world.outcome()  # one of them has the second event
    leg = world.node._holdings.legs[world.call_id]
    assert list(leg.published) == [2, 3]
    world.outcome()
    assert list(leg.published) == [3]


def test_a_dead_event_is_given_up_and_the_stream_goes_on() -> None:
    world = answered(World(settings(schedule=Schedule(delays=(0.0, 5.0)))))
    world.accepting = False
    world.reinvite(sequence=2, sdp=sdp(direction="sendonly"))
    world.bye(sequence=3)
    world.outcome(DOWN)
    world.advance(6.0)
    world.outcome(DOWN)
    assert "webhook_dead" in [effect.event for effect in world.effects if isinstance(effect, Noted)]
    world.outcome()
    assert world.types == ["call.incoming", "call.answered", "call.ended"]
    world.advance(60.0)
    assert world.leftovers() == {}


def test_an_endpoint_that_is_gone_for_good_is_said_once() -> None:
    world = World()
    world.invite()
    world.outcome(Outcome(410, None, None, 0.1))
    assert world.statuses == [100, 480]
    assert [effect.event for effect in world.effects if isinstance(effect, Noted)].count("endpoint_disabled") == 1
    world.advance(60.0)
    assert world.leftovers() == {}


def test_cursors_ride_with_the_next_write_or_leave_after_5_ms() -> None:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    assert [ack.sequence for ack in world.commits[-1].acks] == [1]
    assert not any(isinstance(effect, Acknowledge) for effect in world.effects)
    world.ack()
    world.advance(0.006)
    assert [effect.acks[0].sequence for effect in world.effects if isinstance(effect, Acknowledge)] == [2]


@pytest.mark.parametrize("reply", [(), (Ring(), Park()), (ANSWER,)], ids=["park", "ring", "answer"])
def test_a_decision_is_settled_no_earlier_than_what_came_of_it_is_stored(reply: tuple[Action, ...]) -> None:
    """Else a crash in between would leave a call that nobody asks for a decision any more."""
    world = World(settings(endpoints=(HOOK, LOG)))
    world.reply, world.opening = reply, False
    world.invite()
    world.advance(1.0)
    heir = world.restart()
    cursors = dict(world.keyspace._out.get(world.call_id).cursors)  # type: ignore[union-attr]
    if cursors.get(HOOK.id):
        assert not heir.call.is_undecided
    else:
        assert [attempt.decision for attempt in heir.attempts if attempt.endpoint == HOOK.id] == [True]


def test_when_all_is_delivered_the_live_record_is_released() -> None:
    world = answered()
    world.accepting = False
    world.bye()
    assert not any(isinstance(effect, Release) for effect in world.effects)
    world.outcome()
    assert [effect.calls for effect in world.effects if isinstance(effect, Release)] == [(world.call_id,)]
    assert world.keyspace.final_record(world.call_id) is not None


def test_a_release_waits_for_the_last_write() -> None:
    world = answered()
    world.committing = False
    world.bye()
    assert world.node.carried == 1
    assert not any(isinstance(effect, Release) for effect in world.effects)
    world.commit_all()
    assert world.node.carried == 0
