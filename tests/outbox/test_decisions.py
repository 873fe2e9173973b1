"""Contract §3, the paragraph on decision events, sentence by sentence."""

from __future__ import annotations

import pytest

from bridge.outbox.queue import (
    DeadEvent,
    DecisionFailed,
    DecisionReached,
    Endpoint,
    FallbackAsked,
    LateReply,
    Retried,
    Settled,
)
from tests.outbox.bench import DECIDING, DOWN, LOG, OK, WITH_FALLBACK, Bench, Invalid, brought

SPARE = "http://spare.test/calls"


def incoming(*endpoints: Endpoint, in_flight_max: int = 100) -> Bench:
    """A call has come in and waits for its decision."""
    bench = Bench(in_flight_max=in_flight_max)
    bench.event("a", 1, *endpoints, decision=True, type_="call.incoming")
    return bench


def test_a_reply_in_time_decides() -> None:
    bench = incoming(DECIDING, LOG)
    assert [(delivery.endpoint, delivery.decision) for delivery in bench.flying] == [("app", True), ("log", False)]
    bench.answer(OK, ("answer",), url=DECIDING.url)
    assert bench.effects(DecisionReached) == [DecisionReached("a", "evt_a_1", "app", ("answer",))]
    assert Settled("a", "app", 1) in bench.effects(Settled)
    bench.advance(20.0)
    assert bench.effects(DecisionFailed) == []


@pytest.mark.parametrize("reply", [(), None])
def test_no_actions_are_a_decision_too(reply: tuple[str, ...] | None) -> None:
    bench = incoming(DECIDING)
    bench.answer(brought(204), reply)
    assert [list(reached.reply) for reached in bench.effects(DecisionReached)] == [[]]


def test_the_reply_of_an_endpoint_that_does_not_decide_is_ignored() -> None:
    bench = incoming(LOG, DECIDING)
    bench.answer(OK, ("reject",), url=LOG.url)
    assert bench.effects(DecisionReached) == []


def test_the_deciding_endpoint_gets_decisions_whatever_its_filter() -> None:
    bench = incoming(Endpoint("app", DECIDING.url, decision=True, events=frozenset({"call.ended"})))
    assert bench.answer(OK, ("answer",)).event_type == "call.incoming"


def test_without_an_endpoint_that_decides_it_has_failed() -> None:
    bench = incoming(LOG)
    failed = bench.effects(DecisionFailed)
    assert [(decision.why, decision.endpoint) for decision in failed] == [("no_endpoint", None)]


def test_after_the_deadline_the_fallback_plan_runs_and_the_event_stays_queued() -> None:
    bench = incoming(DECIDING)
    bench.advance(4.9)
    assert bench.effects(DecisionFailed) == []
    bench.advance(0.2)
    failed = bench.effects(DecisionFailed)
    assert [(decision.why, decision.url, decision.outcome) for decision in failed] == [("timeout", DECIDING.url, None)]
    bench.answer(brought(None, "timeout"))
    bench.advance(5.0)
    again = bench.answer(OK, ("answer",))
    assert (again.attempt, again.decision) == (2, False)
    assert bench.effects(DecisionReached) == []
    assert bench.effects(LateReply) == []
    assert bench.effects(Settled) == [Settled("a", "app", 1)]


def test_a_late_reply_is_recorded_and_ignored_but_the_event_is_delivered() -> None:
    bench = incoming(DECIDING)
    bench.advance(7.0)
    bench.answer(OK, ("answer",))
    assert bench.effects(LateReply) == [LateReply("a", "evt_a_1", "app", DECIDING.url, OK, ("answer",))]
    assert bench.effects(DecisionReached) == []
    assert bench.effects(Settled) == [Settled("a", "app", 1)]
    assert bench.outbox.settled("a")


def test_a_failed_attempt_fails_the_decision_at_once() -> None:
    bench = incoming(DECIDING)
    bench.answer(DOWN)
    assert [(decision.why, decision.outcome) for decision in bench.effects(DecisionFailed)] == [("failed", DOWN)]
    assert bench.effects(Retried) == [Retried("a", "app", 1, 1, 1005.0)]


def test_the_fallback_url_is_asked_once() -> None:
    bench = incoming(WITH_FALLBACK)
    bench.answer(DOWN)
    asked = bench.effects(FallbackAsked)
    assert [(fallback.why, fallback.url, fallback.outcome) for fallback in asked] == [("failed", DECIDING.url, DOWN)]
    assert bench.effects(DecisionFailed) == []
    spare = bench.answer(OK, ("answer",))
    assert (spare.url, spare.event_id, spare.decision) == (SPARE, "evt_a_1", True)
    assert bench.effects(DecisionReached) == [DecisionReached("a", "evt_a_1", "app", ("answer",))]
    bench.advance(100.0)
    assert bench.sent() == ["a/1", "a/1"]  # the endpoint has it, by its second address
    assert bench.outbox.settled("a")


def test_the_fallback_url_has_a_deadline_of_its_own() -> None:
    bench = incoming(WITH_FALLBACK)
    bench.advance(9.9)
    assert bench.times(FallbackAsked) == [5.0]
    assert bench.times(DecisionFailed) == []
    bench.advance(0.2)
    assert bench.times(DecisionFailed) == [10.0]
    assert [(decision.why, decision.url) for decision in bench.effects(DecisionFailed)] == [("timeout", SPARE)]


def test_a_fallback_url_that_fails_is_the_end() -> None:
    bench = incoming(WITH_FALLBACK)
    bench.answer(DOWN)
    bench.answer(brought(500), url=SPARE)
    failed = bench.effects(DecisionFailed)
    assert [(decision.why, decision.url, decision.outcome) for decision in failed] == [("failed", SPARE, brought(500))]
    bench.advance(5.0)
    assert [delivery.url for delivery in bench.flying] == [DECIDING.url]  # a notification by now


def test_while_the_fallback_url_is_asked_a_reply_of_the_first_is_late() -> None:
    bench = incoming(WITH_FALLBACK)
    bench.advance(6.0)
    bench.answer(OK, ("reject",), url=DECIDING.url)
    assert [late.url for late in bench.effects(LateReply)] == [DECIDING.url]
    bench.answer(OK, ("answer",), url=SPARE)
    assert [reached.reply for reached in bench.effects(DecisionReached)] == [("answer",)]


def test_nothing_overtakes_the_first_attempt_when_the_fallback_url_was_faster() -> None:
    bench = incoming(WITH_FALLBACK)
    bench.event("a", 2, WITH_FALLBACK)
    bench.advance(6.0)
    bench.answer(OK, ("answer",), url=SPARE)
    assert bench.sent() == ["a/1", "a/1"]
    bench.answer(brought(None, "timeout"), url=DECIDING.url)
    assert bench.sent() == ["a/1", "a/1", "a/2"]
    assert bench.effects(Settled) == [Settled("a", "app", 1)]


def test_a_late_reply_of_the_fallback_url_delivers_the_event() -> None:
    bench = incoming(WITH_FALLBACK)
    bench.answer(DOWN)
    bench.advance(4.9)
    bench.advance(0.2)  # the fallback URL's deadline, and the second attempt at the first
    bench.answer(DOWN, url=DECIDING.url)
    bench.answer(OK, ("answer",), url=SPARE)
    assert [(late.url, late.reply) for late in bench.effects(LateReply)] == [(SPARE, ("answer",))]
    assert bench.outbox.settled("a")


def test_an_invalid_reply_means_the_fallback_plan_at_once_and_is_a_delivery() -> None:
    bench = incoming(DECIDING)
    invalid = Invalid()
    bench.answer(OK, invalid)
    failed = bench.effects(DecisionFailed)
    assert [(decision.why, decision.invalid, decision.outcome) for decision in failed] == [
        ("invalid_reply", invalid, OK)
    ]
    assert bench.effects(Settled) == [Settled("a", "app", 1)]
    bench.advance(100.0)
    assert bench.sent() == ["a/1"]


def test_an_invalid_reply_goes_to_the_fallback_url_first() -> None:
    bench = incoming(WITH_FALLBACK)
    invalid = Invalid()
    bench.answer(OK, invalid)
    assert [(asked.why, asked.invalid) for asked in bench.effects(FallbackAsked)] == [("invalid_reply", invalid)]
    bench.answer(OK, ("answer",), url=SPARE)
    assert [reached.reply for reached in bench.effects(DecisionReached)] == [("answer",)]


def test_a_2xx_whose_body_broke_decides_nothing() -> None:
    bench = incoming(DECIDING)
    bench.answer(brought(200, "too_large"), ("answer",))
    failed = bench.effects(DecisionFailed)
    assert [(decision.why, decision.invalid) for decision in failed] == [("invalid_reply", None)]


def test_what_waits_before_a_decision_is_pulled_forward() -> None:
    bench = Bench()
    bench.event("a", 1, DECIDING)
    bench.answer(DOWN)
    bench.event("a", 2, DECIDING, decision=True)
    bench.answer(OK)
    bench.answer(OK, ("accept",))
    assert bench.sent() == ["a/1", "a/1", "a/2"]
    assert [reached.event_id for reached in bench.effects(DecisionReached)] == ["evt_a_2"]


def test_if_that_fails_so_has_the_decision() -> None:
    bench = Bench()
    bench.event("a", 1, DECIDING)
    bench.event("a", 2, DECIDING, decision=True)
    bench.answer(brought(500))
    failed = bench.effects(DecisionFailed)
    assert [(decision.event_id, decision.why) for decision in failed] == [("evt_a_2", "blocked")]
    bench.advance(5.0)
    bench.answer(OK)
    assert bench.answer(OK).decision is False
    assert bench.outbox.settled("a")


def test_a_decision_behind_a_slow_event_has_its_deadline_too() -> None:
    bench = Bench()
    bench.event("a", 1, DECIDING)
    bench.event("a", 2, DECIDING, decision=True)
    bench.advance(5.0)
    assert [(failed.event_id, failed.why) for failed in bench.effects(DecisionFailed)] == [("evt_a_2", "timeout")]


def test_decisions_do_not_wait_for_the_slots_of_notifications() -> None:
    bench = Bench(in_flight_max=1)
    bench.event("x", 1, DECIDING)
    bench.event("y", 1, DECIDING)
    bench.event("a", 1, DECIDING, decision=True)
    assert bench.sent() == ["x/1", "a/1"]


def test_a_decision_that_got_no_slot_in_time_goes_on_as_a_notification() -> None:
    bench = incoming(DECIDING, in_flight_max=1)
    bench.event("b", 1, DECIDING, decision=True)
    assert bench.sent() == ["a/1"]
    bench.advance(5.0)
    assert [failed.call for failed in bench.effects(DecisionFailed)] == ["a", "b"]
    assert [(delivery.call, delivery.decision) for delivery in bench.flying] == [("a", True), ("b", False)]


def test_without_a_slot_for_the_fallback_url_the_decision_fails() -> None:
    bench = incoming(WITH_FALLBACK, in_flight_max=1)
    bench.answer(DOWN)
    bench.event("b", 1, WITH_FALLBACK, decision=True)
    bench.answer(DOWN, url=DECIDING.url)
    assert [failed.call for failed in bench.effects(DecisionFailed)] == ["b"]


def test_a_disabled_endpoint_decides_nothing_but_its_fallback_url_may() -> None:
    bench = incoming(WITH_FALLBACK)
    bench.answer(brought(410))
    bench.answer(OK, ("answer",), url=SPARE)
    bench.event("b", 1, WITH_FALLBACK, decision=True)
    assert [(asked.call, asked.why) for asked in bench.effects(FallbackAsked)] == [("a", "failed"), ("b", "disabled")]
    bench.answer(OK, ("answer",), url=SPARE)
    assert [reached.call for reached in bench.effects(DecisionReached)] == ["a", "b"]
    assert [dead.call for dead in bench.effects(DeadEvent)] == ["a", "b"]


def test_a_decision_is_never_given_up_for_room() -> None:
    bench = Bench(backlog_max=1, in_flight_max=1)
    bench.event("x", 1, DECIDING, decision=True)
    bench.event("a", 1, DECIDING, decision=True)
    assert bench.effects(DeadEvent) == []


def test_a_withdrawn_decision_is_a_notification_and_nobody_is_told_it_failed() -> None:
    bench = incoming(WITH_FALLBACK)
    bench.take(bench.outbox.withdraw("a", now=bench.now))
    bench.answer(OK, ("answer",))
    assert len(bench.effects(LateReply)) == 1
    bench.advance(20.0)
    told = (DecisionReached, FallbackAsked, DecisionFailed)
    assert not [effect for _, effect in bench.seen if isinstance(effect, told)]
    assert bench.outbox.settled("a")


def test_a_withdrawn_decision_that_waits_for_a_slot_takes_a_notification_slot() -> None:
    bench = incoming(DECIDING, in_flight_max=1)
    bench.event("b", 1, DECIDING, decision=True)
    bench.take(bench.outbox.withdraw("b", now=bench.now))
    assert [(delivery.call, delivery.decision) for delivery in bench.flying] == [("a", True), ("b", False)]


def test_a_forgotten_decision_is_silent() -> None:
    bench = incoming(WITH_FALLBACK)
    bench.answer(OK, Invalid())  # delivered, so the stream is done; the fallback URL is still asked
    bench.outbox.forget("a")
    seen = len(bench.seen)
    bench.answer(OK, ("answer",), url=SPARE)
    bench.advance(20.0)
    assert bench.seen[seen:] == []


def test_the_fallback_url_is_not_asked_before_it_has_heard_what_came_before() -> None:
    bench = Bench()
    bench.event("a", 1, WITH_FALLBACK)
    bench.event("a", 2, WITH_FALLBACK, decision=True)
    bench.advance(5.0)
    assert bench.effects(FallbackAsked) == []
    assert [(decision.event_id, decision.why) for decision in bench.effects(DecisionFailed)] == [("evt_a_2", "timeout")]
