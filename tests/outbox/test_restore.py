"""After a restart the queue is what the store has."""

from __future__ import annotations

import pytest

from bridge.errors import LocalProtocolError
from bridge.outbox.queue import DecisionFailed, DecisionReached, Endpoint, FallbackAsked, Retried, Settled
from tests.outbox.bench import APP, DECIDING, DOWN, OK, WITH_FALLBACK, Bench


def test_what_is_after_the_cursor_is_sent_in_order() -> None:
    bench = Bench()
    bench.restore("a", APP, [1, 2, 3, 4], cursor=2)
    bench.answer(OK)
    bench.answer(OK)
    assert bench.sent() == ["a/3", "a/4"]
    assert bench.effects(Settled) == [Settled("a", "app", 3), Settled("a", "app", 4)]


def test_new_events_queue_up_behind() -> None:
    bench = Bench()
    bench.restore("a", APP, [1, 2], cursor=1)
    bench.event("a", 3, APP)
    bench.answer(OK)
    assert bench.sent() == ["a/2", "a/3"]


def test_nothing_is_left_after_the_last_cursor() -> None:
    bench = Bench()
    bench.restore("a", APP, [1, 2], cursor=2)
    assert bench.seen == []
    assert bench.outbox.settled("a")


def test_attempts_and_due_times_go_on_where_they_were() -> None:
    bench = Bench()
    bench.restore("a", APP, [1, 2], cursor=0, attempts=3, due=bench.now + 60.0)
    bench.advance(59.0)
    assert bench.sent() == []
    bench.advance(1.0)
    assert bench.answer(DOWN).attempt == 4
    assert bench.effects(Retried) == [Retried("a", "app", 1, 4, bench.now + 600.0)]


def test_a_due_time_that_passed_while_we_were_dead_is_now() -> None:
    bench = Bench()
    bench.restore("a", APP, [1], cursor=0, attempts=3, due=bench.now - 60.0)
    assert bench.sent() == ["a/1"]


def test_a_success_pulls_restored_streams_forward() -> None:
    bench = Bench()
    bench.restore("a", APP, [1], cursor=0, attempts=1, due=bench.now + 60.0)
    bench.event("b", 1, APP)
    bench.answer(OK)
    assert bench.sent() == ["b/1", "a/1"]


def test_an_endpoints_filter_holds_for_restored_events() -> None:
    bench = Bench()
    bench.restore("a", Endpoint("app", APP.url, events=frozenset({"call.ended"})), [1, 2], cursor=0)
    assert bench.sent() == []
    assert bench.outbox.settled("a")


def test_an_open_decision_is_asked_for_again_with_the_rest_of_its_deadline() -> None:
    bench = Bench()
    bench.restore("a", DECIDING, [1], cursor=0, undecided=(1, bench.now + 2.0))
    assert [delivery.decision for delivery in bench.flying] == [True]
    bench.advance(2.0)
    assert bench.times(DecisionFailed) == [2.0]


def test_an_open_decision_does_not_wait_for_a_due_time() -> None:
    bench = Bench()
    bench.restore("a", DECIDING, [1], cursor=0, attempts=1, due=bench.now + 5.0, undecided=(1, bench.now + 2.0))
    bench.answer(OK, ("answer",))
    assert [reached.event_id for reached in bench.effects(DecisionReached)] == ["evt_a_1"]


def test_an_open_decision_whose_deadline_has_passed_goes_to_the_fallback_plan() -> None:
    bench = Bench()
    bench.restore("a", WITH_FALLBACK, [1], cursor=0, undecided=(1, bench.now - 3.0))
    bench.advance(0.0)
    assert bench.times(FallbackAsked) == [0.0]


def test_a_stream_that_is_alive_is_not_restored() -> None:
    bench = Bench()
    bench.event("a", 1, APP)
    with pytest.raises(LocalProtocolError):
        bench.restore("a", APP, [1], cursor=0)


def test_a_restored_backlog_is_bounded_too() -> None:
    bench = Bench(backlog_max=3)
    bench.restore("a", APP, [1, 2, 3, 4, 5, 6], cursor=0)
    assert bench.outbox.backlog("app") == 3
