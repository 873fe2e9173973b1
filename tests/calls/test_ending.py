"""How a call ends, and what the far end and the application are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.calls.actions import Hangup, Pause, Reject, Ring
from bridge.calls.call import Phase
from bridge.calls.effects import ArmTimer, CloseMedia, DisarmAll, Respond, SendRequest
from bridge.calls.ending import reason_of_code
from bridge.calls.events import ActionCanceled, CallEnded
from bridge.calls.facts import END_REASONS, Ended, Quality
from bridge.calls.inputs import AcceptSent, ByeReceived, Drained, MediaClosed, MediaGone, StoreTooLate, Unacknowledged
from tests.calls.bench import Bench, accepted, answered, ending, hanging_up, sent, unanswered


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (400, "rejected"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (408, "no_answer"),
        (480, "no_answer"),
        (486, "busy"),
        (488, "not_acceptable"),
        (503, "server_error"),
        (600, "busy"),
        (603, "declined"),
        (699, "rejected"),
    ],
)
def test_what_a_code_stands_for(code: int, reason: str) -> None:
    assert reason_of_code(code) == reason


def test_every_code_stands_for_a_documented_reason() -> None:
    assert {reason_of_code(code) for code in range(400, 700)} <= set(END_REASONS)


def test_an_answered_call_gets_a_bye_and_ends_when_its_figures_are_there() -> None:
    bench = answered()
    effects = bench.command(Hangup())
    assert [type(effect) for effect in effects if isinstance(effect, SendRequest | CloseMedia)] == [
        SendRequest,
        CloseMedia,
    ]
    assert "call.ended" not in bench.types
    bench.give(MediaClosed(Quality(packets_sent=3)))
    assert bench.types[-1] == "call.ended"
    assert bench.call.media is not None
    assert bench.call.media.quality == Quality(packets_sent=3)


def test_durations() -> None:
    bench = sent()
    bench.now += 10
    bench.ack()
    bench.now += 20
    bench.give(ByeReceived(None))
    bench.now += 1
    bench.give(MediaClosed(None))
    assert bench.events[-1] == CallEnded(duration_s=30.0, answered_s=20.0)


def test_a_call_that_was_never_answered_lasted_no_time() -> None:
    bench = unanswered()
    bench.now += 4
    bench.decide(Reject(code=486))
    assert bench.events[-1] == CallEnded(duration_s=4.0, answered_s=0.0)
    assert bench.call.ended == Ended("local", "busy", 486, "Busy Here", None)
    assert [attempt.code for attempt in bench.call.attempts] == [486]


@pytest.mark.parametrize("make", [unanswered, accepted, sent, answered, hanging_up])
def test_nothing_wakes_a_call_that_is_over(make: Callable[[], Bench]) -> None:
    bench = make()
    bench.give(MediaGone())
    bench.give(Unacknowledged())
    assert bench.call.phase is Phase.ENDED
    last = next(number for number, effect in enumerate(bench.effects) if effect == DisarmAll())
    assert not any(isinstance(effect, ArmTimer) for effect in bench.effects[last:])


def test_what_was_still_to_be_done_is_told_as_canceled_before_the_end() -> None:
    bench = unanswered()
    bench.decide(Pause(seconds=5), Ring())
    bench.give(ByeReceived(None))
    assert bench.types == ["call.incoming", "action.canceled", "action.canceled", "call.ended"]


def test_an_answer_and_a_hangup_that_the_far_end_forestalls_are_canceled() -> None:
    bench = hanging_up()
    bench.give(ByeReceived(None))
    bench.give(MediaClosed(None))
    told = [event.action for event in bench.events if isinstance(event, ActionCanceled)]
    assert told == ["pause", "answer", "hangup"]  # the pause when the hang-up replaced its list


def test_no_ack_is_answered_with_a_bye() -> None:
    bench = sent()
    effects = bench.give(Unacknowledged())
    assert [effect.method for effect in effects if isinstance(effect, SendRequest)] == ["BYE"]


def test_a_store_that_is_too_late_matters_only_before_the_200_has_left() -> None:
    for bench in (unanswered(), accepted()):
        effects = bench.give(StoreTooLate())
        assert [effect.response.status for effect in effects if isinstance(effect, Respond)] == [503]
        assert [effect.gated for effect in effects if isinstance(effect, Respond)] == [False]
    for bench in (sent(), answered(), ending()):
        assert bench.give(StoreTooLate()) == []


def test_a_service_that_stops() -> None:
    refused = [effect for effect in unanswered().give(Drained()) if isinstance(effect, Respond)]
    assert [(effect.response.status, effect.response.headers.get("Retry-After")) for effect in refused] == [(503, "10")]
    (bye,) = [effect for effect in answered().give(Drained()) if isinstance(effect, SendRequest)]
    assert bye.headers == (("Reason", 'SIP;cause=503;text="drained"'),)
    assert [effect for effect in sent().give(Drained()) if isinstance(effect, SendRequest)] == []


def test_ports_that_are_gone_are_not_closed_again() -> None:
    bench: Bench = answered()
    effects = bench.give(MediaGone())
    assert CloseMedia() not in effects
    assert bench.types[-1] == "call.ended"
    assert bench.call.ended == Ended("node", "node_lost")


def test_an_answer_asked_for_and_refused_is_told_by_the_end() -> None:
    bench = accepted()
    answer_action = bench.call.answer_action
    bench.give(StoreTooLate())
    bench.give(MediaClosed(None))
    assert next(event.action_id for event in bench.events if isinstance(event, ActionCanceled)) == answer_action


def test_what_the_far_end_gave_as_a_cause_is_kept() -> None:
    bench = answered()
    bench.give(ByeReceived(q850=19))
    assert bench.call.ended is not None
    assert bench.call.ended.q850 == 19


def test_after_the_accept_has_left_a_bye_is_a_hangup() -> None:
    bench = accepted()
    bench.give(AcceptSent())
    bench.give(ByeReceived(None))
    assert bench.call.ended == Ended("remote", "hangup")
