"""Order and at-least-once, for any interleaving of events, outcomes, wake-ups, slow and lost answers, and crashes.

A model plays the engine, the store and two endpoints. The store has every event before the outbox does; a cursor reaches
it some time after it was told, and a crash loses what had not reached it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.outbox.queue import (
    Attempt,
    DeadEvent,
    DecisionFailed,
    DecisionReached,
    Delivery,
    Endpoint,
    Event,
    Outbox,
    OutboxEffect,
    Retried,
    Settled,
)
from bridge.outbox.schedule import Outcome, Schedule
from tests.outbox.bench import DOWN, OK, Invalid, brought

APP = Endpoint("app", "http://app.test/", "http://spare.test/", decision=True)
LOG = Endpoint("log", "http://log.test/", events=frozenset({"plain", "decide"}))
CALLS = ("a", "b", "c")
FAILURES = (DOWN, brought(500), brought(404), brought(None, "timeout"), brought(429, retry_after=20.0))


@dataclass
class Kept:
    """What the store knows of one stream, and what of it was not written yet."""

    cursor: int = 0
    attempts: int = 0
    due: float | None = None
    unwritten: list[Settled | Retried] = field(default_factory=list)

    def write(self, *, keep: int = 0) -> None:
        while len(self.unwritten) > keep:
            effect = self.unwritten.pop(0)
            if isinstance(effect, Settled):
                self.cursor, self.attempts, self.due = max(self.cursor, effect.sequence), 0, None
            elif effect.sequence > self.cursor:
                self.attempts, self.due = effect.attempts, effect.due


class Promises(RuleBasedStateMachine):
    @initialize(in_flight_max=st.integers(1, 3), backlog_max=st.sampled_from([4, 1000]))
    def start(self, in_flight_max: int, backlog_max: int) -> None:
        self.now = 1000.0
        self.limits = (in_flight_max, backlog_max)
        self.events: dict[str, list[Event]] = {call: [] for call in CALLS}
        self.kept = {(call, endpoint.id): Kept() for call in CALLS for endpoint in (APP, LOG)}
        self.received: dict[tuple[str, str], list[tuple[int, str]]] = {stream: [] for stream in self.kept}
        self.dead: dict[tuple[str, str], set[int]] = {stream: set() for stream in self.kept}
        self.open: dict[str, float] = {}  # decisions, by event id, with their deadline
        self.outbox = self.new_outbox()
        self.flying: list[Delivery] = []
        self.left_behind: set[int] = set()  # attempts for a call that has moved away since

    def new_outbox(self) -> Outbox[str]:
        return Outbox(
            schedule=Schedule(delays=(0.0, 5.0, 30.0, 120.0)),
            decision_timeout_s=5.0,
            backlog_max=self.limits[1],
            in_flight_max=self.limits[0],
            chance=lambda: 0.5,
        )

    def take(self, effects: list[OutboxEffect[str]]) -> None:
        for effect in effects:
            match effect:
                case Attempt(delivery):
                    self.flying.append(delivery)
                case Settled(call, endpoint) | Retried(call, endpoint):
                    self.kept[call, endpoint].unwritten.append(effect)
                case DeadEvent(call, endpoint, sequence):
                    self.dead[call, endpoint].add(sequence)
                case DecisionReached(event_id=event_id) | DecisionFailed(event_id=event_id):
                    del self.open[event_id]  # a KeyError: told twice, or never asked
                case _:
                    pass

    # What may happen, in any order

    @rule(call=st.sampled_from(CALLS), kind=st.sampled_from(["plain", "decide", "filtered"]))
    def event(self, call: str, kind: str) -> None:
        sequence = len(self.events[call]) + 1
        event = Event(f"evt_{call}_{sequence}", kind, sequence, f"{call}/{sequence}".encode())
        self.events[call].append(event)
        decides = kind == "decide"
        if decides:
            self.open[event.event_id] = self.now + 5.0
        self.take(
            self.outbox.enqueue(
                call, event.event_id, kind, sequence, event.body, (APP, LOG), decision=decides, now=self.now
            )
        )

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0), good=st.booleans(), invalid=st.booleans())
    def delivered(self, which: int, good: bool, invalid: bool) -> None:
        delivery = self.flying.pop(which % len(self.flying))
        self.received[delivery.call, delivery.endpoint].append((delivery.sequence, delivery.url))
        outcome = OK if good else brought(200, "closed")
        self.take(self.outbox.outcome(delivery.delivery, outcome, Invalid() if invalid else ("go",), now=self.now))

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0), failure=st.sampled_from(FAILURES), received=st.booleans())
    def failed(self, which: int, failure: Outcome, received: bool) -> None:
        delivery = self.flying.pop(which % len(self.flying))
        if received:  # and its answer lost
            self.received[delivery.call, delivery.endpoint].append((delivery.sequence, delivery.url))
        self.take(self.outbox.outcome(delivery.delivery, failure, now=self.now))

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 6.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.outbox.deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.take(self.outbox.wake(now=self.now))
        self.now = end

    @rule()
    def late_wake_up(self) -> None:
        self.take(self.outbox.wake(now=self.now))

    @rule(call=st.sampled_from(CALLS), keep=st.integers(0, 3))
    def written(self, call: str, keep: int) -> None:
        for endpoint in (APP, LOG):
            self.kept[call, endpoint.id].write(keep=keep)

    @rule(call=st.sampled_from(CALLS))
    def caller_hangs_up(self, call: str) -> None:
        self.take(self.outbox.withdraw(call, now=self.now))
        self.open = {event_id: at for event_id, at in self.open.items() if not event_id.startswith(f"evt_{call}_")}

    @rule(seconds=st.sampled_from([0.0, 2.0, 60.0]))
    def crash(self, seconds: float) -> None:
        self.now += seconds
        self.flying.clear()
        self.left_behind.clear()
        self.outbox = self.new_outbox()
        for call in CALLS:
            self.bring_back(call)
        # A decision whose event was delivered before we died, and its answer not stored, is the engine's to make.
        alive = {f"evt_{call}_{self.one_open(call)}" for call in CALLS}
        self.open = {event_id: at for event_id, at in self.open.items() if event_id in alive}

    @rule(call=st.sampled_from(CALLS))
    def moved_away_and_back(self, call: str) -> None:
        self.outbox.forget(call)
        self.left_behind.update(delivery.delivery for delivery in self.flying if delivery.call == call)
        self.bring_back(call)
        alive = f"evt_{call}_{self.one_open(call)}"
        self.open = {
            event_id: at
            for event_id, at in self.open.items()
            if event_id == alive or not event_id.startswith(f"evt_{call}_")
        }

    def one_open(self, call: str) -> int:
        """The first open decision of a call that is still to be delivered: what the engine would restore."""
        cursor = self.kept[call, "app"].cursor
        return next((e.sequence for e in self.events[call] if e.event_id in self.open and e.sequence > cursor), 0)

    def bring_back(self, call: str) -> None:
        for endpoint in (APP, LOG):
            kept = self.kept[call, endpoint.id]
            kept.unwritten.clear()
            deciding = self.one_open(call)
            deadline = self.open.get(f"evt_{call}_{deadline_of}", 0.0) if (deadline_of := deciding) else 0.0
            undecided = (deciding, deadline) if deciding and endpoint is APP else None
            self.take(
                self.outbox.restore(
                    call,
                    endpoint,
                    self.events[call],
                    kept.cursor,
                    kept.attempts,
                    kept.due,
                    undecided=undecided,
                    now=self.now,
                )
            )

    # What holds at every moment

    @invariant()
    def one_in_flight_per_stream(self) -> None:
        current = [delivery for delivery in self.flying if delivery.delivery not in self.left_behind]
        streams = [(delivery.call, delivery.url) for delivery in current if delivery.url != APP.fallback_url]
        assert len(streams) == len(set(streams))
        asked = [delivery.event_id for delivery in current if delivery.url == APP.fallback_url]
        assert len(asked) == len(set(asked))

    @invariant()
    def in_order_and_without_a_gap(self) -> None:
        for (call, endpoint), sequences in self.received.items():
            expected = {
                event.sequence for event in self.events[call] if endpoint == "app" or event.event_type != "filtered"
            } - self.dead[call, endpoint]
            seen: set[int] = set()
            for sequence, url in sequences:
                missing = {earlier for earlier in expected if earlier < sequence} - seen
                # The fallback URL is asked for a decision while what came before it may still be under way.
                assert sequence in seen or url == APP.fallback_url or not missing, f"{call} at {endpoint}: {sequences}"
                seen.add(sequence)

    @invariant()
    def nothing_is_settled_that_was_not_received(self) -> None:
        for stream, kept in self.kept.items():
            call, endpoint = stream
            settled = [effect.sequence for effect in kept.unwritten if isinstance(effect, Settled)]
            cursor = max([kept.cursor, *settled])
            for event in self.events[call][:cursor]:
                if endpoint == "app" or event.event_type != "filtered":
                    assert event.sequence in self.dead[stream] or event.sequence in dict(self.received[stream])

    def teardown(self) -> None:
        """In the end the endpoints work: everything arrives, every decision is told, and nothing is left behind."""
        if not hasattr(self, "outbox"):
            return
        for _ in range(10_000):
            if self.flying:
                self.delivered(which=0, good=True, invalid=False)
            elif self.outbox.deadline() is not None:
                self.time_passes(seconds=60.0)
            else:
                break
        for (call, endpoint), sequences in self.received.items():
            for event in self.events[call]:
                if endpoint == "app" or event.event_type != "filtered":
                    assert event.sequence in dict(sequences) or event.sequence in self.dead[call, endpoint]
        assert self.open == {}
        assert all(self.outbox.settled(call) for call in CALLS)
        assert self.outbox.backlog("app") == self.outbox.backlog("log") == 0
        assert not self.outbox._flights
        assert not self.outbox._decisions
        assert all(lane.busy == [0, 0, 0] for lane in self.outbox._lanes.values())


TestPromises = Promises.TestCase
TestPromises.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
