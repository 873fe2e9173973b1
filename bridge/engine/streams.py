"""The streams of addresses of record: their events to the outbox, and what is settled everywhere back to the store.

The same outbox, promises and cursors as those of calls. Refuses to know what the events say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from bridge.calls.actions import Action
from bridge.calls.referral import TransferDecision
from bridge.engine.commit import Ack
from bridge.engine.effects import Acknowledge, Noted
from bridge.engine.holdings import Holdings
from bridge.engine.registrar import Stream
from bridge.engine.registrations import ForgetEvents, RegistrationDecision, StoredStream, stream_of
from bridge.outbox.effects import Endpoint, Event, OutboxEffect, read_event
from bridge.sip.registrar import AddressOfRecord

Outgoing: TypeAlias = list[OutboxEffect[Action | RegistrationDecision | TransferDecision]]


def publish(
    holdings: Holdings,
    aor: AddressOfRecord,
    event: Event,
    endpoints: Sequence[Endpoint],
    *,
    decision: bool,
    now: float,
) -> Outgoing:
    """An event is stored: queue it for every endpoint."""
    streams = holdings.registrar.streams
    stream = streams.get(aor)
    if stream is None:
        stream = streams[aor] = Stream(event.sequence)
    stream.last = event.sequence
    effects = holdings.outbox.enqueue(
        stream_of(aor),
        event.event_id,
        event.event_type,
        event.sequence,
        event.body,
        endpoints,
        decision=decision,
        now=now,
    )
    _forget_if_settled(holdings, aor)  # where none of them wanted it
    return effects


def take_over(
    holdings: Holdings,
    stored: StoredStream,
    endpoints: Sequence[Endpoint],
    *,
    before: int | None = None,
    now: float,
) -> Outgoing:
    """What another owner has left undelivered goes first. `before`: events from this sequence on are published yet."""
    name = stream_of(stored.aor)
    holdings.outbox.forget(name)  # what we may still have of it is in there, too
    holdings.registrar.streams.pop(stored.aor, None)
    events = [event for event in _events(holdings, stored) if before is None or event.sequence < before]
    if not events:
        return []
    cursors = dict(stored.cursors)
    holdings.registrar.streams[stored.aor] = Stream(events[0].sequence, events[-1].sequence, cursors)
    waiting = {each.endpoint: each for each in stored.postponed}
    effects: Outgoing = []
    for endpoint in endpoints:
        later = waiting.get(endpoint.id)
        effects += holdings.outbox.restore(
            name,
            endpoint,
            events,
            cursors.get(endpoint.id, 0),
            later.attempts if later else 0,
            later.due_ms / 1000 if later else None,
            now=now,
        )
    _forget_if_settled(holdings, stored.aor)
    return effects


def settled(holdings: Holdings, aor: AddressOfRecord, endpoint: str, sequence: int) -> None:
    """An endpoint has everything up to `sequence`."""
    stream = holdings.registrar.streams.get(aor)
    if stream is None:
        return
    stream.cursors[endpoint] = sequence
    if not _forget_if_settled(holdings, aor):
        holdings.out.append(Acknowledge((Ack(stream_of(aor), endpoint, sequence),)))


def _forget_if_settled(holdings: Holdings, aor: AddressOfRecord) -> bool:
    if not holdings.outbox.settled(stream_of(aor)):
        return False
    stream = holdings.registrar.streams.pop(aor)
    cursors = tuple(stream.cursors.items())
    holdings.out.append(ForgetEvents(aor, holdings.settings.owner, cursors, stream.first, stream.last))
    return True


def _events(holdings: Holdings, stored: StoredStream) -> list[Event]:
    found = []
    for sequence, body in stored.events:
        try:
            found.append(read_event(sequence, body))
        except (ValueError, LookupError, TypeError) as problem:
            facts = (("aor", stored.aor), ("sequence", sequence), ("problem", str(problem)))
            holdings.out.append(Noted("error", "event_unreadable", None, facts))
    return found
