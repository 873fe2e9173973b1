"""Lists of actions, and REST commands that replace them (contract §1)."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Action, Hangup, Park, Pause, Reject, Ring
from bridge.calls.facts import CallId
from bridge.engine.effects import CommandAccepted, CommandRefused
from tests.engine.world import ANSWER, World, answered, settings


def waiting() -> World:
    """A call that is parked and unanswered."""
    world = World()
    world.reply = ()
    world.invite()
    return world


def refused(answer: CommandAccepted | CommandRefused) -> str:
    assert isinstance(answer, CommandRefused), answer
    return answer.code


# Ends of lists


def test_a_parked_call_gets_180_each_minute_until_its_time_is_over() -> None:
    world = World()
    world.reply = (Park(timeout_s=130),)
    world.invite()
    world.advance(131.0)
    assert world.times(180) == [0.0, 60.0, 120.0]
    assert world.statuses[-1] == 480
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "park_timeout")


def test_the_end_of_a_list_refuses_an_unanswered_call() -> None:
    world = World()
    world.reply = (Ring(), Pause(seconds=3))
    world.invite()
    world.advance(2.9)
    assert world.statuses == [100, 180]
    world.advance(0.2)
    assert world.statuses == [100, 180, 480]
    assert (world.ended["by"], world.ended["reason"]) == ("local", "rejected")


def test_the_end_of_a_list_leaves_an_answered_call_up() -> None:
    world = World()
    world.reply = (ANSWER, Pause(seconds=3))
    world.invite()
    world.ack()
    world.advance(600.0)
    assert world.call.state == "answered"


def test_the_rest_of_a_list_runs_when_the_ack_has_come() -> None:
    world = World()
    world.reply = (ANSWER, Pause(seconds=2), Hangup())
    world.invite()
    world.advance(5.0)
    assert world.requests("BYE") == []
    world.ack()
    world.advance(2.1)
    assert world.ended["reason"] == "hangup"
    assert world.types == ["call.incoming", "call.answered", "call.ended"]


def test_after_a_single_command_an_unanswered_call_waits_for_the_next() -> None:
    world = waiting()
    world.command(Ring())
    world.advance(59.0)
    assert world.call.state == "ringing"
    world.command(ANSWER)
    assert world.statuses[-1] == 200


def test_after_a_list_by_rest_an_unanswered_call_is_refused() -> None:
    world = waiting()
    world.command(Ring(), listed=True)
    assert world.statuses[-1] == 480


# What each command comes to


def test_ring() -> None:
    world = waiting()
    (action_id,) = world.ask(Ring())
    assert world.statuses == [100, 180, 180, 180]  # parked, rung, parked again
    assert world.told("action.completed")["action_id"] == world.told("action.completed")["caused_by"] == action_id


@pytest.mark.parametrize(
    ("action", "status", "reason"),
    [(Reject(code=486), 486, "busy"), (Reject(), 480, "rejected"), (Hangup(), 480, "hangup")],
)
def test_refusals(action: Action, status: int, reason: str) -> None:
    world = waiting()
    (action_id,) = world.ask(action)
    assert world.statuses[-1] == status
    assert world.ended["reason"] == reason
    assert world.told("call.ended")["caused_by"] == action_id


def test_hangup_ends_an_answered_call_by_bye() -> None:
    world = answered()
    (action_id,) = world.ask(Hangup(reason='gone "home"', headers={"X-Why": ("1",)}))
    (bye,) = world.requests("BYE")
    assert bye.headers.get("Reason") == 'Q.850;cause=16;text="gone \\"home\\""'
    assert bye.headers.get("X-Why") == "1"
    assert world.told("call.ended")["caused_by"] == action_id
    assert world.ports == {}


def test_client_state_is_echoed_from_then_on() -> None:
    world = World()
    world.reply = (Ring(client_state="one"), ANSWER)
    world.invite()
    world.ack()
    assert world.told("call.answered")["call"]["client_state"] == "one"
    world.command(Hangup(client_state="two"))
    assert world.told("call.ended")["call"]["client_state"] == "two"


# Replacing


def test_a_new_list_cancels_what_is_left_of_the_old_one() -> None:
    world = World()
    world.reply = (Pause(seconds=60), Ring(), ANSWER)
    world.invite()
    world.command(Reject(code=603))
    canceled = [body["data"]["action"] for body in world.bodies if body["type"] == "action.canceled"]
    assert canceled == ["pause", "ring", "answer"]
    assert world.ended["reason"] == "declined"
    world.advance(61.0)
    assert world.types[-1] == "call.ended"


def test_a_park_that_is_answered_to_is_done_not_canceled() -> None:
    world = waiting()
    world.command(Park(timeout_s=100))
    world.command(ANSWER)
    world.ack()
    assert "action.canceled" not in world.types
    world.advance(200.0)
    assert world.call.state == "answered"


def test_an_answer_under_way_survives_the_list_that_replaces_its_own() -> None:
    world = World()
    world.reply = (ANSWER, Pause(seconds=60))
    world.invite()
    world.command(Pause(seconds=1), Hangup(), listed=True)
    world.ack()
    assert world.types == ["call.incoming", "action.canceled", "call.answered"]
    assert world.told("action.canceled")["action"] == "pause"
    world.advance(1.1)
    assert world.ended["reason"] == "hangup"


# What does not fit


@pytest.mark.parametrize("action", [Ring(), ANSWER, Reject()])
def test_a_command_that_is_wrong_for_the_state_changes_nothing(action: Action) -> None:
    world = answered()
    before = len(world.commits)
    assert refused(world.command(action)) == "wrong_state"
    assert len(world.commits) == before
    assert world.call.state == "answered"


@pytest.mark.parametrize("action", [Ring(), ANSWER, Reject()])
def test_a_call_that_is_being_answered_is_not_answered_twice(action: Action) -> None:
    world = World()
    world.reply, world.opening = (ANSWER,), False
    world.invite()
    answer = world.command(action)
    assert refused(answer) == "wrong_state"
    assert isinstance(answer, CommandRefused)
    assert "being answered" in answer.detail


def test_an_action_that_is_wrong_in_a_list_stops_it_and_the_plan_runs() -> None:
    world = World()
    world.reply = (ANSWER, Ring(), Pause(seconds=60))
    world.invite()
    world.ack()
    assert world.types == ["call.incoming", "call.answered", "action.failed", "action.canceled", "call.ended"]
    assert (world.told("action.failed")["code"], world.told("action.failed")["action"]) == ("wrong_state", "ring")
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "application_failed")
    assert len(world.requests("BYE")) == 1  # what would have refused the call now ends it


def test_a_wrong_action_in_the_plan_itself_ends_the_call() -> None:
    world = World(settings(plan={"fallback": (ANSWER,)}))
    world.reply = (ANSWER, Park(timeout_s=1))
    world.invite()
    world.ack()
    world.advance(1.1)
    assert world.told("action.failed")["action"] == "answer"
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "park_timeout")


def test_a_command_brings_a_call_back_from_its_plan() -> None:
    world = World(settings(plan={"fallback": (Pause(seconds=30),)}))
    world.down = True
    world.invite()
    world.down = False
    world.command(ANSWER)
    world.ack()
    world.command(Hangup())
    assert (world.ended["by"], world.ended["reason"]) == ("local", "hangup")


def test_a_command_to_a_call_that_has_ended_or_never_was() -> None:
    world = answered()
    world.accepting = False
    world.bye()
    assert refused(world.command(Hangup())) == "ended"
    assert refused(world.command(Hangup(), call=CallId("call_unknown"))) == "not_found"


def test_what_rest_was_promised_is_written_before_anything_comes_of_it() -> None:
    world = waiting()
    before = len(world.commits)
    world.opening = False
    world.command(ANSWER)
    assert len(world.commits) == before + 1
    heir = world.restart()
    assert heir.statuses[-1] == 200


# Limits


def test_nobody_rings_for_ever() -> None:
    world = World(settings(plan={"ring_limit_s": 20.0}))
    world.reply = (Ring(), Pause(seconds=600))
    world.invite()
    world.advance(21.0)
    assert world.statuses[-1] == 480
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "no_answer")


def test_nobody_talks_for_ever() -> None:
    world = answered(World(settings(plan={"duration_limit_s": 20.0})))
    world.advance(21.0)
    assert len(world.requests("BYE")) == 1
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "max_duration")


def test_a_call_has_no_more_events_than_one_may_have() -> None:
    world = World(settings(max_events_per_call=10))
    world.reply = ()
    world.invite()
    for _ in range(20):
        world.command(Ring())
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "overload")
    assert len(world.stored_events()) == 11
