"""The place a list has come to."""

from __future__ import annotations

from bridge.calls.actions import Answer, Pause, Ring
from bridge.calls.facts import ActionId
from bridge.calls.lists import ActionList, Step

STEPS = [Step(ActionId("act_1"), Ring()), Step(ActionId("act_2"), Pause()), Step(ActionId("act_3"), Answer())]


def test_steps_are_taken_one_by_one() -> None:
    actions = ActionList.of("decision", STEPS)
    assert [actions.take(), actions.take(), actions.take(), actions.take()] == [*STEPS, None]
    assert actions.current is None


def test_what_is_given_up_is_the_current_step_and_all_that_never_began() -> None:
    actions = ActionList.of("decision", STEPS)
    actions.take()
    actions.take()
    assert actions.abandon() == STEPS[1:]
    assert actions.abandon() == []
    assert actions.take() is None


def test_a_list_that_never_began_is_given_up_whole() -> None:
    assert ActionList.of("command", STEPS).abandon() == STEPS
