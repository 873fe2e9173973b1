"""Streams and lanes: order, retries, slots, backlog, disabled endpoints."""

from __future__ import annotations

import json

import pytest

from bridge.errors import LocalProtocolError
from bridge.outbox.queue import Attempt, DeadEvent, Endpoint, EndpointDisabled, Event, Retried, Settled, read_event
from tests.outbox.bench import APP, DOWN, LOG, OK, Bench, brought


def test_an_event_is_sent_at_once_and_settled_by_its_2xx() -> None:
    bench = Bench()
    bench.event("a", 1, APP)
    sent = bench.answer(OK)
    assert (sent.url, sent.event_id, sent.sequence, sent.attempt, sent.decision) == (APP.url, "evt_a_1", 1, 1, False)
    assert bench.effects(Settled) == [Settled("a", "app", 1)]
    assert bench.outbox.settled("a")
    assert bench.outbox.deadline() is None


def test_the_next_event_waits_for_the_one_before() -> None:
    bench = Bench()
    for sequence in (1, 2, 3):
        bench.event("a", sequence, APP)
    assert bench.sent() == ["a/1"]
    bench.answer(OK)
    assert bench.sent() == ["a/1", "a/2"]
    bench.answer(DOWN)
    bench.advance(4.9)
    assert bench.sent() == ["a/1", "a/2"]
    bench.advance(0.2)
    assert bench.sent() == ["a/1", "a/2", "a/2"]


def test_calls_and_endpoints_do_not_wait_for_each_other() -> None:
    bench = Bench()
    bench.event("a", 1, APP, LOG)
    bench.event("a", 2, APP, LOG)
    bench.event("b", 1, APP, LOG)
    bench.answer(OK, url=LOG.url)
    assert bench.sent("app") == ["a/1", "b/1"]
    assert bench.sent("log") == ["a/1", "b/1", "a/2"]
    assert not bench.outbox.settled("a")


def test_failures_follow_the_schedule_until_the_event_is_dead_and_the_stream_goes_on() -> None:
    bench = Bench()
    bench.event("a", 1, APP)
    bench.event("a", 2, APP)
    for _ in range(10):
        bench.answer(DOWN)
        bench.advance(43_300.0 if len(bench.flying) == 0 and bench.sent()[-1] == "a/1" else 0.0)
    assert [retried.attempts for retried in bench.effects(Retried)] == list(range(1, 10))
    dead = bench.effects(DeadEvent)
    assert [(event.sequence, event.reason, event.attempts) for event in dead] == [(1, "exhausted", 10)]
    assert bench.sent() == ["a/1"] * 10 + ["a/2"]
    assert bench.effects(Settled) == [Settled("a", "app", 1)]


def test_a_retry_tells_when_it_is_due() -> None:
    bench = Bench()
    bench.event("a", 1, APP)
    bench.answer(DOWN)
    assert bench.effects(Retried) == [Retried("a", "app", 1, 1, 1005.0)]
    assert bench.outbox.deadline() == 1005.0


def test_an_endpoint_gets_only_the_types_it_wants_and_its_cursor_passes_the_others() -> None:
    bench = Bench()
    picky = Endpoint("log", LOG.url, events=frozenset({"call.ended"}))
    bench.event("a", 1, picky, type_="call.answered")
    bench.event("a", 2, picky, type_="call.ended")
    assert bench.sent("log") == ["a/2"]
    bench.answer(OK)
    assert bench.effects(Settled) == [Settled("a", "log", 2)]


def test_a_success_makes_what_waits_for_the_endpoint_due_at_once() -> None:
    bench = Bench()
    for call in "abc":
        bench.event(call, 1, APP)
        bench.answer(DOWN)
    bench.event("d", 1, APP)
    bench.answer(OK)
    assert bench.sent() == ["a/1", "b/1", "c/1", "d/1", "a/1", "b/1", "c/1"]


def test_a_whole_crowd_is_pulled_forward_within_a_few_round_trips() -> None:
    bench = Bench()
    for number in range(60):
        bench.event(f"c{number}", 1, APP)
        bench.answer(DOWN)
    bench.event("new", 1, APP)
    round_trips = 0
    while bench.flying:
        for _ in range(len(bench.flying)):
            bench.answer(OK)
        round_trips += 1
    assert len(bench.effects(Settled)) == 61
    assert round_trips == 4


def test_a_stumbling_endpoint_uses_up_no_attempts_of_those_pulled_forward() -> None:
    bench = Bench()
    bench.event("a", 1, APP)
    bench.answer(DOWN)
    for sequence in range(1, 30):
        bench.event("b", sequence, APP)
        bench.answer(OK)
        assert bench.answer(DOWN).call == "a"
    assert bench.effects(DeadEvent) == []
    bench.advance(5.0)
    bench.answer(DOWN)
    assert [retried.attempts for retried in bench.effects(Retried)] == [1, 2]


def test_retry_after_is_not_pulled_forward() -> None:
    bench = Bench()
    bench.event("a", 1, APP)
    bench.answer(brought(429, retry_after=60.0))
    bench.event("b", 1, APP)
    bench.answer(OK)
    assert bench.sent() == ["a/1", "b/1"]
    bench.advance(59.0)
    assert bench.sent() == ["a/1", "b/1"]
    bench.advance(1.0)
    assert bench.sent() == ["a/1", "b/1", "a/1"]


def test_slots_bound_what_is_under_way_and_go_to_who_has_waited_longest() -> None:
    bench = Bench(in_flight_max=2)
    for call in "abcd":
        bench.event(call, 1, APP)
    bench.event("a", 2, APP)
    assert bench.sent() == ["a/1", "b/1"]
    bench.answer(OK)
    assert bench.sent() == ["a/1", "b/1", "c/1"]
    bench.answer(OK)
    bench.answer(OK)
    assert bench.sent() == ["a/1", "b/1", "c/1", "d/1", "a/2"]


def test_a_hanging_endpoint_uses_up_only_its_own_slots() -> None:
    bench = Bench(in_flight_max=2)
    for call in "abcdef":
        bench.event(call, 1, APP, LOG)
    for _ in range(6):
        bench.answer(OK, url=LOG.url)
    assert bench.sent("log") == [f"{call}/1" for call in "abcdef"]
    assert len(bench.sent("app")) == 2


def test_a_full_backlog_gives_up_the_oldest_and_counts_it() -> None:
    bench = Bench(backlog_max=3)
    for call in "abc":
        bench.event(call, 1, APP)
        bench.answer(DOWN)
    bench.event("d", 1, APP)
    dead = bench.effects(DeadEvent)
    assert [(event.call, event.reason) for event in dead] == [("a", "backlog")]
    assert bench.effects(Settled) == [Settled("a", "app", 1)]
    assert bench.outbox.backlog("app") == 3


def test_a_full_backlog_never_gives_up_what_is_under_way() -> None:
    bench = Bench(backlog_max=2)
    bench.event("a", 1, APP)
    bench.event("a", 2, APP)
    bench.event("a", 3, APP)
    assert [event.sequence for event in bench.effects(DeadEvent)] == [2]
    bench.answer(OK)
    assert bench.sent() == ["a/1", "a/3"]
    assert bench.effects(Settled) == [Settled("a", "app", 2)]


def test_410_disables_the_endpoint_and_gives_up_what_waits_for_it() -> None:
    bench = Bench()
    for call in "abc":
        bench.event(call, 1, APP, LOG)
    bench.event("a", 2, APP)
    bench.answer(brought(410), url=APP.url)
    bench.advance(0.0)
    assert bench.effects(EndpointDisabled) == [EndpointDisabled("app", APP.url)]
    assert [(dead.call, dead.sequence) for dead in bench.effects(DeadEvent)] == [("a", 1), ("a", 2)]
    bench.answer(OK, url=APP.url)
    bench.answer(DOWN, url=APP.url)
    bench.event("d", 1, APP, LOG)
    assert [dead.call for dead in bench.effects(DeadEvent)] == ["a", "a", "c", "d"]
    assert bench.outbox.backlog("app") == 0
    assert bench.sent("log") == ["a/1", "b/1", "c/1", "d/1"]


def test_a_long_backlog_is_given_up_in_turns() -> None:
    bench = Bench(in_flight_max=1)
    for number in range(350):
        bench.event(f"c{number}", 1, APP)
    bench.answer(brought(410))
    turns = 0
    while bench.outbox.deadline() is not None:
        bench.take(bench.outbox.wake(now=bench.now))
        turns += 1
    assert turns == 4
    assert len(bench.effects(DeadEvent)) == 350


def test_a_retired_endpoint_is_forgotten_and_may_come_back() -> None:
    bench = Bench()
    bench.event("a", 1, APP)
    bench.event("b", 1, APP)
    bench.answer(DOWN)
    bench.outbox.retire("app", now=bench.now)
    bench.advance(0.0)
    bench.answer(DOWN)
    assert [dead.call for dead in bench.effects(DeadEvent)] == ["a", "b"]
    bench.event("c", 1, APP)
    assert bench.answer(OK).call == "c"


def test_what_waits_goes_to_the_url_that_is_configured_now() -> None:
    bench = Bench()
    bench.event("a", 1, APP)
    bench.answer(DOWN)
    moved = Endpoint("app", "http://new.test/")
    bench.event("b", 1, moved)
    bench.advance(5.0)
    assert {delivery.url for delivery in bench.flying} == {"http://new.test/"}


def test_a_forgotten_call_is_let_go_silently() -> None:
    bench = Bench()
    bench.event("a", 1, APP, LOG)
    bench.event("a", 2, APP, LOG)
    bench.answer(DOWN, url=LOG.url)
    bench.outbox.forget("a")
    seen = len(bench.seen)
    bench.answer(OK)
    bench.advance(100_000.0)
    assert bench.seen[seen:] == []
    assert bench.outbox.settled("a")
    assert bench.outbox.backlog("app") == bench.outbox.backlog("log") == 0


def test_a_forgotten_call_that_comes_back_starts_from_the_store() -> None:
    bench = Bench()
    bench.event("a", 1, APP)
    bench.outbox.forget("a")
    bench.restore("a", APP, [1, 2], cursor=0)
    assert bench.sent() == ["a/1", "a/1"]
    bench.answer(OK)  # of the attempt before: nobody's any more
    assert bench.effects(Settled) == []
    bench.answer(OK)
    assert bench.effects(Settled) == [Settled("a", "app", 1)]


def test_an_outcome_nobody_waits_for_is_our_own_mistake() -> None:
    bench = Bench()
    bench.event("a", 1, APP)
    number = bench.answer(OK).delivery
    with pytest.raises(LocalProtocolError):
        bench.outbox.outcome(number, OK, now=bench.now)


def test_sequences_ascend() -> None:
    bench = Bench()
    bench.event("a", 2, APP)
    with pytest.raises(LocalProtocolError):
        bench.event("a", 2, APP)


def test_attempts_are_numbered_per_event_and_named_apart() -> None:
    bench = Bench()
    bench.event("a", 1, APP)
    for _ in range(3):
        bench.answer(DOWN)
        bench.advance(200.0)
    attempts = [effect.delivery for effect in bench.effects(Attempt)]
    assert [delivery.attempt for delivery in attempts] == [1, 2, 3, 4]
    assert len({delivery.delivery for delivery in attempts}) == 4
    assert {delivery.event_id for delivery in attempts} == {"evt_a_1"}


def test_a_stored_event_is_read_from_its_body() -> None:
    body = json.dumps({"id": "evt_1", "type": "call.ended", "data": {"sequence": 3}}).encode()
    assert read_event(3, body) == Event("evt_1", "call.ended", 3, body)
