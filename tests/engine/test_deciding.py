"""Who decides what becomes of a call, and what happens when nobody does (contract §3, "Decision")."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Park, Pause, Reject, Ring
from bridge.engine.effects import Noted
from bridge.engine.inputs import InvalidReply
from bridge.outbox.effects import Endpoint
from bridge.outbox.schedule import Outcome
from tests.engine.world import ANSWER, DOWN, HOOK, OK, World, settings

TWO_URLS = Endpoint("front-desk.0", "http://app/calls", "http://spare/calls", decision=True)
INVALID = InvalidReply('actions.0.code: should be a number; received "x"', "actions.0.code")


def noted(world: World, event: str) -> list[Noted]:
    return [effect for effect in world.effects if isinstance(effect, Noted) and effect.event == event]


def test_no_reply_in_time_runs_the_fallback_actions() -> None:
    world = World()
    world.invite()
    world.advance(4.9)
    assert world.statuses == [100]
    world.advance(0.2)
    assert world.statuses == [100, 480]
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "application_failed")
    world.advance(60.0)
    assert world.types == ["call.incoming", "action.failed", "call.ended"]
    failed = world.told("action.failed")
    assert (failed["code"], failed["action"], failed["action_id"]) == ("no_reply", None, None)


def test_what_the_console_says_about_it_helps() -> None:
    world = World()
    world.down = True
    world.invite()
    (failed,) = noted(world, "decision_failed")
    assert failed.call == world.call_id
    assert "nothing listens at http://app" in dict(failed.facts)["advice"]  # type: ignore[operator]


@pytest.mark.parametrize("outcome", [DOWN, Outcome(500, None, None, 0.1), Outcome(404, None, None, 0.1)])
def test_a_failed_attempt_decides_nothing_and_waits_for_no_deadline(outcome: Outcome) -> None:
    world = World()
    world.invite()
    world.outcome(outcome)
    assert world.statuses == [100, 480]
    assert world.ended["reason"] == "application_failed"


def test_the_fallback_url_is_asked_before_the_plan_runs() -> None:
    world = World(settings(endpoints=(TWO_URLS,)))
    world.invite()
    world.outcome(DOWN)
    assert world.attempts[-1].url == "http://spare/calls"
    world.outcome(OK, (ANSWER,))
    assert world.statuses == [100, 200]


def test_the_fallback_url_has_a_deadline_of_its_own() -> None:
    world = World(settings(endpoints=(TWO_URLS,)))
    world.invite()
    world.advance(5.1)
    assert world.attempts[-1].url == "http://spare/calls"
    assert world.statuses == [100]
    world.advance(5.0)
    assert world.statuses == [100, 480]


def test_an_unusable_reply_runs_the_plan_at_once_and_names_the_field() -> None:
    world = World()
    world.reply = INVALID
    world.invite()
    assert world.statuses == [100, 480]
    failed = world.told("action.failed")
    assert (failed["code"], failed["field"]) == ("invalid_reply", "actions.0.code")
    assert "should be a number" in failed["detail"]


def test_an_unusable_reply_is_told_also_when_the_fallback_url_decides() -> None:
    world = World(settings(endpoints=(TWO_URLS,)))
    world.invite()
    world.outcome(OK, INVALID)
    world.outcome(OK, (ANSWER,))
    world.ack()
    assert world.types == ["call.incoming", "action.failed", "call.answered"]
    assert world.told("action.failed")["field"] == "actions.0.code"


def test_a_late_reply_is_ignored() -> None:
    world = World()
    world.invite()
    world.advance(6.0)
    world.outcome(OK, (ANSWER,))
    assert world.statuses[:2] == [100, 480]
    assert 200 not in world.statuses
    assert len(noted(world, "late_reply_ignored")) == 1
    assert world.types == ["call.incoming", "action.failed", "call.ended"]


def test_nothing_said_is_parked() -> None:
    world = World()
    world.reply = ()
    world.invite()
    assert world.statuses == [100, 180]
    world.advance(61.0)
    assert world.ended["reason"] == "park_timeout"


def test_the_plan_may_do_more_than_refuse() -> None:
    world = World(settings(plan={"fallback": (Ring(), ANSWER, Pause(seconds=5))}))
    world.down = True
    world.invite()
    assert world.statuses == [100, 180, 200]
    world.down = False
    world.ack()
    world.advance(10.0)
    assert world.call.state == "answered"


def test_a_plan_that_comes_to_nothing_ends_the_call() -> None:
    world = World(settings(plan={"fallback": (Ring(), Park(timeout_s=3))}))
    world.down = True
    world.invite()
    world.advance(3.1)
    assert world.statuses == [100, 180, 180, 480]
    assert world.ended["reason"] == "application_failed"


def test_a_plan_without_actions_parks_once() -> None:
    world = World(settings(plan={"fallback": ()}))
    world.down = True
    world.invite()
    world.advance(60.1)
    assert world.statuses == [100, 180, 480]
    assert world.ended["reason"] == "application_failed"


def test_an_application_whose_endpoints_do_not_decide_is_fallen_back_from() -> None:
    world = World(settings(endpoints=(Endpoint("log", "http://log/", decision=False),)))
    world.invite()
    assert world.statuses == [100, 480]
    assert world.told("action.failed")["code"] == "no_reply"


# The application speaks by REST before it replies


def test_an_answer_by_rest_stands_when_the_reply_says_nothing() -> None:
    world = World()
    world.invite()
    world.command(ANSWER)
    world.outcome(OK, (Park(),))  # what an empty body means
    world.ack()
    world.advance(120.0)
    assert world.call.state == "answered"


def test_an_answer_by_rest_stands_when_no_reply_comes() -> None:
    world = World()
    world.invite()
    world.command(ANSWER)
    world.ack()
    world.advance(20.0)
    assert world.call.state == "answered"
    assert world.told("action.failed")["code"] == "no_reply"


def test_a_ringing_by_rest_is_followed_by_the_reply() -> None:
    world = World()
    world.invite()
    world.command(Ring())
    world.decide(ANSWER)
    assert world.statuses[-1] == 200


def test_a_command_that_is_faster_than_the_store_leaves_nothing_to_decide() -> None:
    world = World()
    world.committing = False
    world.invite()
    world.command(Reject(code=486))
    world.commit_all()
    assert world.statuses == [486]
    assert not any(attempt.decision for attempt in world.attempts)


def test_who_hangs_up_leaves_nothing_to_decide() -> None:
    world = World(settings(endpoints=(HOOK, Endpoint("log", "http://log/"))))
    world.committing = False
    world.invite()
    world.cancel()
    world.commit_all()
    assert not any(attempt.decision for attempt in world.attempts)
    assert world.types == ["call.incoming", "call.ended"]
