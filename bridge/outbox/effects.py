"""What goes into the outbox and what comes out of it, as plain values.

The engine turns each effect into its own: an attempt into a request, a cursor into a write, a decision into actions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar

from bridge.outbox.schedule import Outcome, Unusable

A = TypeVar("A")  # one action of a usable reply

DeathReason = Literal["client_error", "exhausted", "disabled", "backlog"]

# Why a URL brought no decision: too late; a failed attempt; a reply that is no list of actions; an event before it in the
# stream could not be delivered; the endpoint is disabled; none of the endpoints decides.
Why = Literal["timeout", "failed", "invalid_reply", "blocked", "disabled", "no_endpoint"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an application wants its events. Its id names it in the store: another URL under it inherits what waits."""

    id: str
    url: str
    fallback_url: str | None = None  # asked once when a decision fails at `url`
    decision: bool = False  # True for the one endpoint of an application whose replies decide
    events: frozenset[str] | None = None  # the types it wants; None: all. Decisions reach the deciding one regardless


@dataclass(frozen=True, slots=True)
class Event:
    """One stored event, as `restore` wants it."""

    event_id: str
    event_type: str
    sequence: int
    body: bytes


def read_event(sequence: int, body: bytes) -> Event:
    """An event out of the store, where only its rendered body is kept."""
    envelope = json.loads(body)
    return Event(envelope["id"], envelope["type"], sequence, body)


class Delivery(NamedTuple):
    """One attempt to be made: everything the sender needs, and nothing it has to look up."""

    delivery: int  # names the attempt; its outcome comes back under this number
    endpoint: str  # the endpoint's id: where the sender finds its secrets
    url: str
    event_id: str  # the same on every attempt of one event: `webhook-id`
    event_type: str
    call: str
    sequence: int
    body: bytes
    attempt: int  # from 1; an attempt pulled forward bears the number of the one it comes before
    timeout_s: float  # for the whole attempt, connecting included
    decision: bool  # its reply is wanted


class Attempt(NamedTuple):
    """Make this attempt now; `outcome` is told what came of it, exactly once."""

    delivery: Delivery


class Settled(NamedTuple):
    """Everything up to `sequence` is delivered, dead or filtered at this endpoint: its cursor."""

    call: str
    endpoint: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Retried:
    """The head of this stream failed and waits until `due` (seconds UTC)."""

    call: str
    endpoint: str
    sequence: int
    attempts: int  # made so far, the failed one included
    due: float


@dataclass(frozen=True, slots=True)
class DeadEvent:
    """Given up; listed, and replayable from the store. The stream goes on."""

    call: str
    endpoint: str
    sequence: int
    event_id: str
    event_type: str
    reason: DeathReason
    attempts: int
    outcome: Outcome | None  # of the last attempt, where one was the reason


@dataclass(frozen=True, slots=True)
class EndpointDisabled:
    """The endpoint answered 410: it gets nothing more until it is configured anew."""

    endpoint: str
    url: str


@dataclass(frozen=True, slots=True)
class DecisionReached(Generic[A]):
    """The application has decided in time."""

    call: str
    event_id: str
    endpoint: str
    reply: Sequence[A]  # empty: no actions, which means `park`


@dataclass(frozen=True, slots=True)
class FallbackAsked:
    """The deciding URL brought no decision; the fallback URL is being asked. The same facts as in `DecisionFailed`."""

    call: str
    event_id: str
    why: Why
    endpoint: str
    url: str  # the one that failed
    outcome: Outcome | None
    invalid: Unusable | None


@dataclass(frozen=True, slots=True)
class DecisionFailed:
    """Nobody has decided: the application's fallback actions are next. The event stays queued as a notification."""

    call: str
    event_id: str
    why: Why
    endpoint: str | None  # None: no endpoint decides
    url: str | None  # the one that failed last
    outcome: Outcome | None  # the attempt's, where there was one
    invalid: Unusable | None  # with `invalid_reply`, where the reply was read to its end


@dataclass(frozen=True, slots=True)
class LateReply(Generic[A]):
    """A 2xx to a decision that had been made without it. The event counts as delivered, the reply as nothing."""

    call: str
    event_id: str
    endpoint: str
    url: str
    outcome: Outcome
    reply: Sequence[A] | Unusable | None


OutboxEffect: TypeAlias = (
    Attempt
    | Settled
    | Retried
    | DeadEvent
    | EndpointDisabled
    | DecisionReached[A]
    | FallbackAsked
    | DecisionFailed
    | LateReply[A]
)
