"""A call's session timer (RFC 4028): what is asked for, what is in force, and when to look at it again.

Each INVITE of either side that is answered with a 2xx puts it in force anew. The refresh itself is a re-INVITE, and stands
in `reoffering`.
"""

from __future__ import annotations

from bridge.calls.call import Call
from bridge.calls.effects import ArmTimer, CallTimer, DisarmTimer
from bridge.sip.headers import Line
from bridge.sip.message import Request, Response
from bridge.sip.session_timer import (
    TIMER,
    SessionTimer,
    agreed_with,
    answer_lines,
    min_se,
    request_lines,
    taken_from,
)

_TAKEN_UP_S = 32.0  # what a far end has to answer whoever carries its call on: 64·T1
_SUPPORTED = ("Supported", TIMER)


def wanted(call: Call) -> int | None:
    """What we ask for, in seconds: as configured, and not less than somebody has asked for by a 422; None: nothing."""
    return max(call.plan.session_expires_s or 0, call.session_least) or None


def offered(call: Call, request: Request, *, now: float) -> None:
    """Our 2xx to this INVITE or re-INVITE is about to leave."""
    _put_in_force(call, agreed_with(request, wanted(call), now=now))


def answered(call: Call, response: Response, *, now: float) -> None:
    """A 2xx to our INVITE or re-INVITE came."""
    asked = wanted(call)
    if asked is not None or call.session is not None or "Session-Expires" in response.headers:
        _put_in_force(call, taken_from(response, asked, now=now))
        arm(call, now=now)


def arm(call: Call, *, now: float) -> None:
    """See to it from now on."""
    if call.session is not None:
        call.out.append(ArmTimer(CallTimer.SESSION, max(0.0, call.session.next_at - now)))


def raised(call: Call, response: Response) -> bool:
    """Whether a 422 asks for more than we did: then we ask for that much (§7.3)."""
    least = min_se(response)
    asked = call.session.interval if call.session is not None else wanted(call) or 0
    if least <= max(asked, call.session_least):
        return False
    call.session_least = least
    return True


def asked_first(call: Call) -> list[Line]:
    """What the INVITE of an attempt says."""
    return request_lines(wanted(call), None, call.session_least)


def asked_again(call: Call) -> list[Line]:
    """What a re-INVITE says: as things are (§7.4)."""
    session = call.session
    if session is None:
        return [_SUPPORTED, *request_lines(wanted(call), None, call.session_least)]
    interval = max(session.interval, call.session_least)
    return [_SUPPORTED, *request_lines(interval, session.refresher, call.session_least)]


def said(session: SessionTimer | None, request: Request) -> list[Line]:
    """What our 2xx says."""
    return answer_lines(session, request)


def taken_up(call: Call, *, now: float) -> float | None:
    """When to look at the timer of a call that another process has carried, in seconds UTC; None: it has none.

    A refresh may have gone to a process that was dead: where the session is about to expire, or should have, it is refreshed
    at once, whosever turn it is.
    """
    session = call.session
    if session is None:
        return None
    if session.ends_at - now >= _TAKEN_UP_S:
        return max(now, session.next_at)
    call.session = session.lasting(_TAKEN_UP_S, now=now)
    return now


def _put_in_force(call: Call, session: SessionTimer | None) -> None:
    if session is None and call.session is not None:
        call.out.append(DisarmTimer(CallTimer.SESSION))
    call.session = session
