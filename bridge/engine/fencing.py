"""Self-fencing (survival §1): a node whose lease is not valid begins nothing of its own accord.

Packets cannot be fenced by a store, so the node does it itself: what would end a call, or change it, without the far end
having asked for it is put aside until the store has said that the call is still ours. BYE, CANCEL, ACK and repetitions
are answered meanwhile; new calls are turned away where they arrive. A node that was paused and wakes up finds its lease
lapsed by the clock alone, before anybody has told it.
"""

from __future__ import annotations

import math

from bridge.calls import session_timing
from bridge.calls.effects import CallTimer
from bridge.calls.facts import CallId
from bridge.engine.effects import CommandRefused, OriginateRefused
from bridge.engine.gate import Created
from bridge.engine.holdings import Holding, Holdings, NodeTimer, TimerKey
from bridge.engine.inputs import Command, Delivered, Fetched, Input, Leased, MediaLost, MediaTimedOut, Originate

_LATER_S = 0.5  # until a deadline that was put off is looked at again
_AUDIT_PACE_S = 0.0005  # between two conversations: 10,000 take 5 s
_DETAIL = "this node has lost touch with the store; live calls go on"

WITHHELD = frozenset(
    {Command, Delivered, Fetched, MediaLost, MediaTimedOut, Originate}
)  # what `put_aside` has to be asked about


def leased(holdings: Holdings, given: Leased, *, now: float) -> None:
    """The store has heard of us. After a lapse somebody else may have what was ours: each conversation is asked for."""
    if given.snapshot is not None:
        holdings.snapshot = given.snapshot
    before = holdings.lease_until
    if now <= before:
        holdings.lease_until = given.until if math.isinf(before) else max(before, given.until)
        return
    holdings.lease_until = given.until
    for place, holding in enumerate(holdings.conversations.values()):
        holding.unsure, holding.doubted = True, holdings.ticket
        holdings.agenda.arm((next(iter(holding.legs)), NodeTimer.AUDIT), now + place * _AUDIT_PACE_S)


def put_aside(holdings: Holdings, given: Input, *, now: float) -> bool:
    """Whether this input has to wait, or has been refused, because of what we do not know."""
    match given:
        case Command() | Originate() if now > holdings.lease_until:
            refused = CommandRefused if isinstance(given, Command) else OriginateRefused
            holdings.out.append(refused(given.request, "store_away", _DETAIL))
            return True
        case Command() | Fetched():
            leg = holdings.legs.get(given.call)
            return leg is not None and _wait(holdings, leg.holding, given, now=now)
        case MediaTimedOut(session):
            return _media_waits(holdings, session, given, now=now)
        case MediaLost(sessions):
            if len(sessions) > 1:
                holdings.again.extend([MediaLost((session,)) for session in sessions])  # some may wait, and others not
                return True
            return _media_waits(holdings, sessions[0], given, now=now) if sessions else False
        case Delivered(delivery, reply=reply) if reply is not None:
            call = holdings.outbox.call_of(delivery)
            leg = holdings.legs.get(CallId(call)) if call is not None else None
            return leg is not None and _wait(holdings, leg.holding, given, now=now)
    return False


def put_off(holdings: Holdings, holding: Holding, key: TimerKey, *, now: float) -> bool:
    """Whether a deadline of a call has to wait. Those of the node itself do not, but for one: a caller who has waited long
    enough for the store is refused at once only if the store does not know the call. Else somebody may be answering it."""
    if not is_fenced(holdings, holding, now=now):
        return False
    if isinstance(key[1], NodeTimer) and (key[1] is not NodeTimer.STORE or _is_new(holding, key[0])):
        return False
    leg = holding.legs.get(key[0]) if key[1] is CallTimer.SESSION else None
    if leg is not None:
        session_timing.taken_up(leg.call, now=now)  # we have refused the refresh, if there was one
    holdings.agenda.arm(key, now + _LATER_S)
    return True


def _is_new(holding: Holding, call: CallId) -> bool:
    """Whether the store has not said yet that it has this call."""
    return any(isinstance(waiting, Created) and waiting.call == call for waiting in holding.gate.waiting())


def is_fenced(holdings: Holdings, holding: Holding, *, now: float) -> bool:
    """Whether we do not know that this conversation is ours."""
    return holding.unsure or now > holdings.lease_until


def sure(holdings: Holdings, holding: Holding, ticket: int) -> None:
    """The store has taken a write of it: it is ours, and what was put aside comes now. An answer to a write from before our
    lease lapsed says nothing: it may have been under way all the while that somebody else took it."""
    if ticket <= holding.doubted:
        return
    holding.unsure = False
    if holding.aside:
        holdings.again.extend(holding.aside)
        holding.aside.clear()


def _media_waits(holdings: Holdings, session: str, given: Input, *, now: float) -> bool:
    leg = holdings.legs.get(CallId(session.partition("/")[0]))
    return leg is not None and _wait(holdings, leg.holding, given, now=now)


def _wait(holdings: Holdings, holding: Holding, given: Input, *, now: float) -> bool:
    if not is_fenced(holdings, holding, now=now):
        return False
    holding.aside.append(given)
    return True
