"""Webhook deliveries without I/O: what is sent next, what waits, what a decision came to (contract §3, promises 2 and 4).

A *stream* is one call's events for one endpoint: in order, one in flight. A *lane* is one endpoint: its streams share its
slots, and a dead or slow endpoint uses up nobody else's. What the outcomes mean is `schedule`'s; what the events and the
replies say is nobody's here: bodies are bytes, an action is whatever `A` is. Refuses to know calls, HTTP and the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Generic

from bridge.agenda import Agenda
from bridge.errors import LocalProtocolError
from bridge.outbox.effects import (
    A,
    Attempt,
    DeadEvent,
    DeathReason,
    DecisionFailed,
    DecisionReached,
    Delivery,
    Endpoint,
    EndpointDisabled,
    Event,
    FallbackAsked,
    LateReply,
    OutboxEffect,
    Retried,
    Settled,
    Why,
    read_event,
)
from bridge.outbox.lanes import DECISION, FALLBACK, NOTIFY, Decision, Flight, Item, Lane, Place, Stage, Stream
from bridge.outbox.schedule import Accepted, Dead, DisableEndpoint, Outcome, Retry, Schedule, Unusable

__all__ = [
    "Attempt",
    "DeadEvent",
    "DecisionFailed",
    "DecisionReached",
    "Delivery",
    "Endpoint",
    "EndpointDisabled",
    "Event",
    "FallbackAsked",
    "LateReply",
    "Outbox",
    "OutboxEffect",
    "Retried",
    "Settled",
    "read_event",
]

# A success pulls so many waiting heads of its endpoint forward, and each of those that succeeds as many again: a healthy
# endpoint has them all within a few round trips, one that fails nine times in ten is not stampeded by every success.
_PULLED_BY_A_SUCCESS = 4
_BURIED_AT_ONCE = 100  # items of a disabled endpoint per wake-up, so that a long backlog does not stop the world


class Outbox(Generic[A]):
    """All deliveries of a node. Every method returns effects; `deadline` says when to call `wake`."""

    def __init__(
        self,
        *,
        schedule: Schedule,
        decision_timeout_s: float,
        backlog_max: int,
        in_flight_max: int,
        chance: Callable[[], float],
        attempt_timeout_s: float = 10.0,
    ) -> None:
        """`backlog_max` events per endpoint, `in_flight_max` attempts of each kind (notifications, decisions,
        fallback URL) per endpoint; `chance` gives numbers from 0 to 1 for the schedule's jitter."""
        self._schedule = schedule
        self._decision_timeout_s = decision_timeout_s
        self._backlog_max = backlog_max
        self._in_flight_max = in_flight_max
        self._chance = chance
        self._attempt_timeout_s = attempt_timeout_s
        self._lanes: dict[str, Lane] = {}
        self._streams: dict[str, dict[str, Stream]] = {}  # by call, by endpoint; only those with items
        self._decisions: dict[str, list[Decision]] = {}  # open ones, by call
        self._flights: dict[int, Flight] = {}
        self._agenda: Agenda[Stream | Decision | Lane] = Agenda()
        self._number = 0

    # What the engine asks

    def is_flying(self, call: str) -> bool:
        """Whether an attempt of this call is under way, or a decision open."""
        if call in self._decisions:
            return True
        return any(stream.place is Place.FLYING for stream in self._streams.get(call, {}).values())

    def call_of(self, delivery: int) -> str | None:
        """Whose event is under way; None for a delivery that is not."""
        flight = self._flights.get(delivery)
        return None if flight is None else flight.item.stream.call

    def deadline(self) -> float | None:
        """When `wake` has something to do next (seconds UTC)."""
        return self._agenda.deadline()

    def settled(self, call: str) -> bool:
        """True when every event of this call is delivered or dead everywhere."""
        return call not in self._streams

    def backlog(self, endpoint: str) -> int:
        """How many events wait for this endpoint, those under way included."""
        lane = self._lanes.get(endpoint)
        return len(lane.items) if lane else 0

    # What happens

    def enqueue(  # noqa: PLR0917 -- an event and where it goes
        self,
        call: str,
        event_id: str,
        event_type: str,
        sequence: int,
        body: bytes,
        endpoints: Iterable[Endpoint],
        *,
        decision: bool,
        now: float,
    ) -> list[OutboxEffect[A]]:
        """A stored event, for all of an application's endpoints; sequences of a call ascend.

        With `decision` the reply of the deciding endpoint is awaited, by `DecisionReached` or `DecisionFailed`.
        """
        effects: list[OutboxEffect[A]] = []
        for endpoint in endpoints:
            deciding = decision and endpoint.decision
            if deciding:
                decision = False
            elif endpoint.events is not None and event_type not in endpoint.events:
                continue
            lane = self._lane(endpoint)
            if len(lane.items) >= self._backlog_max:
                self._shrink(lane, self._backlog_max - 1, now, effects)
            item = self._append(self._stream(call, lane), event_id, event_type, sequence, body)
            if deciding:
                self._open(item, now + self._decision_timeout_s)
            if lane.disabled:
                self._kill(item, "disabled", None, now, effects)
            else:
                self._stir(item.stream, now, effects)
        if decision:
            effects.append(DecisionFailed(call, event_id, "no_endpoint", None, None, None, None))
        return effects

    def restore(  # noqa: PLR0917 -- a stream as the store has it
        self,
        call: str,
        endpoint: Endpoint,
        events: Iterable[Event],
        cursor: int,
        attempts: int,
        due: float | None,
        *,
        undecided: tuple[int, float] | None = None,
        now: float,
    ) -> list[OutboxEffect[A]]:
        """One stream as the store has it: `events` ascending, `cursor` the last settled one, and for the first after it
        the failed `attempts` and when it is `due` (None: now).

        `undecided` names an event whose decision was open when the node died: its sequence, and its deadline (seconds
        UTC). It is asked for again, before its time if need be.
        """
        if endpoint.id in self._streams.get(call, ()):
            raise LocalProtocolError(f"the stream of {call} to {endpoint.id} is alive")
        effects: list[OutboxEffect[A]] = []
        deciding, deadline = undecided if undecided is not None and endpoint.decision else (0, 0.0)
        lane = self._lane(endpoint)
        stream: Stream | None = None
        for event in events:
            wanted = endpoint.events is None or event.event_type in endpoint.events or event.sequence == deciding
            if event.sequence <= cursor or not wanted:
                continue
            if stream is None:
                stream = self._stream(call, lane)
            item = self._append(stream, event.event_id, event.event_type, event.sequence, event.body)
            if event.sequence == deciding:
                self._open(item, deadline)
        if stream is None:
            return effects
        stream.items[0].attempts = attempts
        if lane.disabled:
            self._agenda.arm(lane, now)
        if due is not None and due > now:
            self._wait(stream, due)
        self._stir(stream, now, effects)
        self._shrink(lane, self._backlog_max, now, effects)
        return effects

    def outcome(
        self, delivery: int, outcome: Outcome, reply: Sequence[A] | Unusable | None = None, *, now: float
    ) -> list[OutboxEffect[A]]:
        """An attempt is over. `reply`: what a decision's 2xx said; neither reply nor error means the same as an empty one."""
        flight = self._flights.pop(delivery, None)
        if flight is None:
            raise LocalProtocolError(f"no delivery {delivery} is under way")
        effects: list[OutboxEffect[A]] = []
        lane = flight.item.stream.lane
        lane.busy[flight.slot] -= 1
        if not flight.item.stream.gone:
            if flight.asks:
                self._reply(flight, outcome, reply, now, effects)
            if flight.slot != FALLBACK:
                self._landed(flight, outcome, now, effects)
        self._pump(lane, now, effects)
        if lane.retired and not lane.items:
            self._lanes.pop(lane.id, None)
        return effects

    def wake(self, *, now: float) -> list[OutboxEffect[A]]:
        """Do what is due."""
        effects: list[OutboxEffect[A]] = []
        buried: list[Lane] = []
        while (key := self._agenda.pop_due(now)) is not None:
            if isinstance(key, Stream):
                key.lane.waiting.pop(key, None)
                key.place = Place.IDLE
                self._stir(key, now, effects)
            elif isinstance(key, Decision):
                self._overdue(key, now, effects)
            else:
                buried.append(key)
        for lane in buried:
            self._bury(lane, now, effects)
        return effects

    def withdraw(self, call: str, *, now: float) -> list[OutboxEffect[A]]:
        """Nobody waits for the decisions of this call any more (its caller has gone): they go on as notifications."""
        effects: list[OutboxEffect[A]] = []
        for decision in list(self._decisions.get(call, ())):
            self._close(decision)
            self._pump(decision.item.stream.lane, now, effects)
        return effects

    def forget(self, call: str) -> None:
        """Let go of this call silently: another node delivers for it now. Outcomes still to come are taken and ignored."""
        for decision in list(self._decisions.get(call, ())):
            decision.item.stream.gone = True
            self._close(decision)
        for stream in self._streams.pop(call, {}).values():
            stream.gone = True
            for item in stream.items:
                item.done = True
                stream.lane.items.pop(item, None)
            self._unplace(stream)

    def retire(self, endpoint: str, *, now: float) -> None:
        """This endpoint is configured no more: the next wake-ups give up what waits for it."""
        lane = self._lanes.get(endpoint)
        if lane is not None:
            lane.disabled = lane.retired = True
            self._agenda.arm(lane, now)

    # Streams

    def _lane(self, endpoint: Endpoint) -> Lane:
        lane = self._lanes.get(endpoint.id)
        if lane is None:
            lane = self._lanes[endpoint.id] = Lane(endpoint.id)
        lane.url = endpoint.url
        lane.fallback_url = endpoint.fallback_url
        return lane

    def _stream(self, call: str, lane: Lane) -> Stream:
        streams = self._streams.get(call)
        if streams is None:
            streams = self._streams[call] = {}
        stream = streams.get(lane.id)
        if stream is None:
            stream = streams[lane.id] = Stream(call, lane)
        return stream

    def _append(self, stream: Stream, event_id: str, event_type: str, sequence: int, body: bytes) -> Item:
        if sequence <= stream.last:
            raise LocalProtocolError(f"event {sequence} of {stream.call} comes after {stream.last}")
        item = Item(stream, event_id, event_type, sequence, body)
        stream.last = sequence
        stream.items.append(item)
        stream.lane.items[item] = None
        return item

    def _stir(self, stream: Stream, now: float, effects: list[OutboxEffect[A]]) -> None:
        """Send the head of this stream if it may go, or queue it for a slot. A call that waits pulls it forward."""
        urgent, place, lane = stream.undecided > 0, stream.place, stream.lane
        if place is Place.FLYING or (place is not Place.IDLE and not urgent) or stream in lane.queues[DECISION]:
            return
        self._unplace(stream)
        slot = DECISION if urgent else NOTIFY
        if lane.disabled or lane.queues[slot] or lane.busy[slot] >= self._in_flight_max:
            stream.place = Place.READY
            lane.queues[slot][stream] = None
        else:
            self._send(stream, slot, now, effects)

    def _send(self, stream: Stream, slot: int, now: float, effects: list[OutboxEffect[A]]) -> None:
        stream.place = Place.FLYING
        item, url = stream.items[0], stream.lane.url
        self._fly(Flight(item, slot, url, item.undecided, stream.due > now), item.attempts + 1, effects)

    def _fly(self, flight: Flight, attempt: int, effects: list[OutboxEffect[A]]) -> None:
        self._number = number = self._number + 1
        self._flights[number] = flight
        item, slot, url, asks, _ = flight
        lane = item.stream.lane
        lane.busy[slot] += 1
        delivery = Delivery(
            number,
            lane.id,
            url,
            item.event_id,
            item.event_type,
            item.stream.call,
            item.sequence,
            item.body,
            attempt,
            self._attempt_timeout_s,
            asks,
        )
        effects.append(Attempt(delivery))

    def _pump(self, lane: Lane, now: float, effects: list[OutboxEffect[A]]) -> None:
        """Give free slots to the streams that have waited longest for one."""
        if lane.disabled:
            return
        for slot in (DECISION, NOTIFY):
            queue = lane.queues[slot]
            while queue and lane.busy[slot] < self._in_flight_max:
                self._send(queue.popitem(last=False)[0], slot, now, effects)

    def _wait(self, stream: Stream, due: float) -> None:
        stream.place = Place.WAITING
        stream.due = due
        self._agenda.arm(stream, due)
        if not stream.held:
            stream.lane.waiting[stream] = None

    def _unplace(self, stream: Stream) -> None:
        """Take the stream out of wherever it is queued."""
        if stream.place is Place.WAITING:
            self._agenda.disarm(stream)
            stream.lane.waiting.pop(stream, None)
        elif stream.place is Place.READY:
            for queue in stream.lane.queues:
                queue.pop(stream, None)
        stream.place = Place.IDLE

    # Outcomes

    def _landed(self, flight: Flight, outcome: Outcome, now: float, effects: list[OutboxEffect[A]]) -> None:
        """An attempt at the endpoint's own URL is over: the head is settled, waits, or is dead."""
        item = flight.item
        stream = item.stream
        lane = stream.lane
        stream.place = Place.IDLE
        if outcome.delivered:
            self._remove(item, now, effects)
            if lane.waiting:
                self._recover(lane, now, effects)
            return
        if stream.undecided:
            self._block(stream, outcome, now, effects)
        if item.done:
            self._remove(item, now, effects)
        elif flight.early and outcome.status != 410 and not lane.disabled:
            self._postpone(stream, stream.due, self._schedule.hold(outcome), now, effects)
        else:
            self._fail(item, outcome, now, effects)

    def _fail(self, item: Item, outcome: Outcome, now: float, effects: list[OutboxEffect[A]]) -> None:
        stream = item.stream
        lane = stream.lane
        item.attempts += 1
        match self._schedule.verdict(outcome, item.attempts, chance=self._chance()):
            case Retry(after, hold) if not lane.disabled:
                self._postpone(stream, now + after, hold, now, effects)
            case Dead(reason):
                self._kill(item, reason, outcome, now, effects)
            case DisableEndpoint() if not lane.disabled:
                lane.disabled = True
                self._agenda.arm(lane, now)
                effects.append(EndpointDisabled(lane.id, lane.url))
                self._kill(item, "disabled", outcome, now, effects)
            case Accepted():
                raise AssertionError("a delivered event does not fail")
            case _:
                self._kill(item, "disabled", outcome, now, effects)

    def _postpone(self, stream: Stream, due: float, hold: float, now: float, effects: list[OutboxEffect[A]]) -> None:
        stream.held = hold > 0.0
        due = max(due, now + hold)
        item = stream.items[0]
        if due != stream.due:
            effects.append(Retried(stream.call, stream.lane.id, item.sequence, item.attempts, due))
        self._wait(stream, due)

    def _recover(self, lane: Lane, now: float, effects: list[OutboxEffect[A]]) -> None:
        """The endpoint lives: what waited for it need not wait longer."""
        for _ in range(min(_PULLED_BY_A_SUCCESS, len(lane.waiting))):
            stream = next(iter(lane.waiting))
            self._unplace(stream)
            self._stir(stream, now, effects)

    def _remove(self, item: Item, now: float, effects: list[OutboxEffect[A]]) -> None:
        """Delivered or dead: the next one's turn. While it flies it stays first, so that nothing overtakes it."""
        item.done = True
        if item.flying or item not in item.stream.lane.items:
            return
        stream = item.stream
        del stream.lane.items[item]
        if stream.items[0] is not item:
            stream.items.remove(item)
            return
        stream.items.popleft()
        self._unplace(stream)
        stream.due, stream.held = 0.0, False
        effects.append(Settled(stream.call, stream.lane.id, stream.cursor))
        if stream.items:
            self._stir(stream, now, effects)
        else:
            self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        streams = self._streams[stream.call]
        del streams[stream.lane.id]
        if not streams:
            del self._streams[stream.call]

    def _kill(
        self, item: Item, reason: DeathReason, outcome: Outcome | None, now: float, effects: list[OutboxEffect[A]]
    ) -> None:
        stream = item.stream
        if item.decision is not None and item.decision.stage is Stage.PRIMARY:
            self._undecided(item.decision, stream.lane.url, "disabled", outcome, None, now, effects)
        effects.append(
            DeadEvent(
                stream.call,
                stream.lane.id,
                item.sequence,
                item.event_id,
                item.event_type,
                reason,
                item.attempts,
                outcome,
            )
        )
        self._remove(item, now, effects)

    def _shrink(self, lane: Lane, size: int, now: float, effects: list[OutboxEffect[A]]) -> None:
        """Down to `size` items: the oldest that can be given up are dead."""
        while len(lane.items) > size:
            oldest = next(lane.idle_items(), None)
            if oldest is None:
                return
            self._kill(oldest, "backlog", None, now, effects)

    def _bury(self, lane: Lane, now: float, effects: list[OutboxEffect[A]]) -> None:
        for item in list(islice((item for item in lane.items if not item.flying), _BURIED_AT_ONCE)):
            self._kill(item, "disabled", None, now, effects)
        if any(not item.flying for item in lane.items):
            self._agenda.arm(lane, now)
        elif lane.retired and not lane.items:
            self._lanes.pop(lane.id, None)

    # Decisions

    def _open(self, item: Item, deadline: float) -> None:
        item.decision = decision = Decision(item)
        item.stream.undecided += 1
        self._decisions.setdefault(item.stream.call, []).append(decision)
        self._agenda.arm(decision, deadline)

    def _reply(
        self,
        flight: Flight,
        outcome: Outcome,
        reply: Sequence[A] | Unusable | None,
        now: float,
        effects: list[OutboxEffect[A]],
    ) -> None:
        """What the asked URL said, or that it said nothing."""
        decision = flight.item.decision
        if decision is None:
            raise AssertionError("only decisions are asked for")
        stream, event_id = flight.item.stream, flight.item.event_id
        asked = Stage.FALLBACK if flight.slot == FALLBACK else Stage.PRIMARY
        if decision.stage is not asked:
            if outcome.delivered:
                effects.append(LateReply(stream.call, event_id, stream.lane.id, flight.url, outcome, reply))
        elif not outcome.delivered:
            self._undecided(decision, flight.url, "failed", outcome, None, now, effects)
        elif outcome.error is not None or not (reply is None or isinstance(reply, Sequence)):
            invalid = None if isinstance(reply, Sequence) else reply
            self._undecided(decision, flight.url, "invalid_reply", outcome, invalid, now, effects)
        else:
            self._close(decision)
            effects.append(DecisionReached(stream.call, event_id, stream.lane.id, reply or ()))
        if asked is Stage.FALLBACK and outcome.delivered:
            self._remove(flight.item, now, effects)  # the endpoint has it, by its second address

    def _undecided(  # noqa: PLR0917 -- the facts both effects tell
        self,
        decision: Decision,
        url: str,
        why: Why,
        outcome: Outcome | None,
        invalid: Unusable | None,
        now: float,
        effects: list[OutboxEffect[A]],
    ) -> None:
        """`url` brought no decision: the fallback URL once, then it has failed. Nor is that asked before it has been told what
        came before: it is the same endpoint, which hears everything in its order (contract §3, promise 2)."""
        item = decision.item
        stream = item.stream
        lane = stream.lane
        waits = bool(stream.items) and stream.items[0].sequence < item.sequence
        fallback = None if waits else lane.fallback_url
        if decision.stage is Stage.PRIMARY and fallback is not None and lane.busy[FALLBACK] < self._in_flight_max:
            self._leave(decision)
            decision.stage = Stage.FALLBACK
            self._agenda.arm(decision, now + self._decision_timeout_s)
            effects.append(FallbackAsked(stream.call, item.event_id, why, lane.id, url, outcome, invalid))
            self._fly(Flight(item, FALLBACK, fallback, asks=True, early=False), 1, effects)
        else:
            self._close(decision)
            effects.append(DecisionFailed(stream.call, item.event_id, why, lane.id, url, outcome, invalid))

    def _block(self, stream: Stream, outcome: Outcome, now: float, effects: list[OutboxEffect[A]]) -> None:
        """An event failed while a decision waited behind it: so has that decision."""
        for item in list(stream.items):
            if item.decision is not None and item.decision.stage is Stage.PRIMARY:
                self._undecided(item.decision, stream.lane.url, "blocked", outcome, None, now, effects)

    def _overdue(self, decision: Decision, now: float, effects: list[OutboxEffect[A]]) -> None:
        lane = decision.item.stream.lane
        url = lane.url if decision.stage is Stage.PRIMARY else lane.fallback_url or lane.url
        self._undecided(decision, url, "timeout", None, None, now, effects)
        self._pump(lane, now, effects)

    def _close(self, decision: Decision) -> None:
        self._leave(decision)
        decision.stage = Stage.CLOSED
        self._agenda.disarm(decision)
        call = decision.item.stream.call
        decisions = self._decisions[call]
        decisions.remove(decision)
        if not decisions:
            del self._decisions[call]

    def _leave(self, decision: Decision) -> None:
        """The deciding URL decides no more; its stream is a notification's like any other when nothing else waits in it."""
        if decision.stage is not Stage.PRIMARY:
            return
        stream = decision.item.stream
        stream.undecided -= 1
        if not stream.undecided and stream in stream.lane.queues[DECISION]:
            del stream.lane.queues[DECISION][stream]
            stream.lane.queues[NOTIFY][stream] = None
