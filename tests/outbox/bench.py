"""One outbox on a bench: time is a number, an endpoint is whoever calls `answer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from bridge.outbox.queue import Attempt, Delivery, Endpoint, Event, Outbox, OutboxEffect
from bridge.outbox.schedule import Error, Outcome, Schedule, Unusable

E = TypeVar("E")

APP = Endpoint("app", "http://app.test/calls")
LOG = Endpoint("log", "http://log.test/")
DECIDING = Endpoint("app", "http://app.test/calls", decision=True)
WITH_FALLBACK = Endpoint("app", "http://app.test/calls", "http://spare.test/calls", decision=True)


class Invalid:
    """A reply that is no list of actions."""

    detail = "`code` should be a number from 400 to 699, not 'busy'"
    field = "actions.0.code"


def brought(status: int | None = 200, error: Error | None = None, retry_after: float | None = None) -> Outcome:
    return Outcome(status, error, retry_after, 0.01)


OK = brought(200)
DOWN = brought(None, "refused")


class Bench:
    """Feeds an outbox, keeps every effect with its time, and the attempts nobody has answered yet."""

    def __init__(
        self, *, backlog_max: int = 1000, in_flight_max: int = 100, jitter: float = 0.0, chance: float = 0.5
    ) -> None:
        self.now = 1000.0
        self.outbox: Outbox[str] = Outbox(
            schedule=Schedule(jitter=jitter),
            decision_timeout_s=5.0,
            backlog_max=backlog_max,
            in_flight_max=in_flight_max,
            chance=lambda: chance,
        )
        self.seen: list[tuple[float, OutboxEffect[str]]] = []
        self.flying: list[Delivery] = []

    def event(
        self, call: str, sequence: int, *endpoints: Endpoint, decision: bool = False, type_: str = "call.updated"
    ) -> None:
        body = f"{call}/{sequence}".encode()
        name = f"evt_{call}_{sequence}"
        self._take(self.outbox.enqueue(call, name, type_, sequence, body, endpoints, decision=decision, now=self.now))

    def restore(
        self,
        call: str,
        endpoint: Endpoint,
        sequences: Sequence[int],
        cursor: int,
        attempts: int = 0,
        due: float | None = None,
        undecided: tuple[int, float] | None = None,
    ) -> None:
        events = [Event(f"evt_{call}_{n}", "call.updated", n, f"{call}/{n}".encode()) for n in sequences]
        self._take(
            self.outbox.restore(call, endpoint, events, cursor, attempts, due, undecided=undecided, now=self.now)
        )

    def answer(
        self, outcome: Outcome = OK, reply: Sequence[str] | Unusable | None = None, *, url: str | None = None
    ) -> Delivery:
        """The oldest attempt under way (at `url`) is over."""
        delivery = next(delivery for delivery in self.flying if url is None or delivery.url == url)
        self.flying.remove(delivery)
        self._take(self.outbox.outcome(delivery.delivery, outcome, reply, now=self.now))
        return delivery

    def advance(self, seconds: float) -> None:
        """Let the time pass, waking the outbox whenever it asks for it."""
        end = self.now + seconds
        while (deadline := self.outbox.deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self._take(self.outbox.wake(now=self.now))
        self.now = end

    def effects(self, kind: type[E]) -> list[E]:
        return [effect for _, effect in self.seen if isinstance(effect, kind)]

    def times(self, kind: type[object]) -> list[float]:
        """When effects of this kind came, in seconds since the bench was made."""
        return [round(at - 1000.0, 3) for at, effect in self.seen if isinstance(effect, kind)]

    def sent(self, endpoint: str = "app") -> list[str]:
        """The bodies of all attempts so far."""
        return [
            effect.delivery.body.decode() for effect in self.effects(Attempt) if effect.delivery.endpoint == endpoint
        ]

    def take(self, effects: list[OutboxEffect[str]]) -> None:
        """Take effects that a test asked of the outbox itself."""
        self._take(effects)

    def _take(self, effects: list[OutboxEffect[str]]) -> None:
        for effect in effects:
            self.seen.append((self.now, effect))
            if isinstance(effect, Attempt):
                self.flying.append(effect.delivery)
