"""Session timers (RFC 4028): how long a session lasts without a sign of life, and who of the two gives it.

What each side says in Session-Expires and Min-SE (§4, §5), as user agent client (§7) and server (§9), and when a session
is refreshed or over (§10). Functions over messages and numbers. It refuses to know who keeps the deadlines, and by what
requests a session is refreshed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from bridge.sip.grammar import is_number, parameters
from bridge.sip.headers import HasHeaders, Line, Malformed, option_tags
from bridge.sip.message import Request, Response

TIMER = "timer"  # the option tag (§7.1)
MIN_SE = 90  # seconds: the least that anybody may ask for (§5), and the least that we take
_LONGEST = 2**31 - 1  # seconds; more is the same to everybody
_BEFORE_S = 32.0  # a session is given up so long before its end, or a third of it (§10)
_RETRY_LEAST_S = 16.0  # from one try to refresh to the next, half of Timer F


class Refresher(StrEnum):
    """Who keeps a session alive."""

    OURS = "ours"
    THEIRS = "theirs"
    ALONE = "alone"  # we, and the far end has not agreed to anything: nothing expires


@dataclass(frozen=True, slots=True)
class Expiry:
    """What a Session-Expires header says."""

    seconds: int
    refresher: str | None  # "uac" or "uas"; None: it leaves that open


class SessionTimer(NamedTuple):
    """What is in force in one dialog."""

    interval: int  # seconds
    refresher: Refresher
    expires_at: float  # seconds UTC; nobody looks at it where we are alone
    by_update: bool = False  # the far end takes UPDATE (RFC 3311), which leaves the description alone

    @property
    def ends_at(self) -> float:
        """When whoever has not heard of a refresh gives the session up (§10)."""
        return self.expires_at - self._margin

    @property
    def next_at(self) -> float:
        """When there is something to do: the refresh at half of the interval, or the end."""
        return self.ends_at if self.refresher is Refresher.THEIRS else self.expires_at - self.interval / 2

    def is_over(self, now: float) -> bool:
        return self.refresher is not Refresher.ALONE and now >= self.ends_at

    def again_in(self, now: float) -> float:
        """From a try to refresh to the next one, or to the end: seconds."""
        if self.refresher is Refresher.ALONE:
            return self.interval / 2
        left = max(self.ends_at - now, 0.0)
        return left / 2 if left / 2 >= _RETRY_LEAST_S else left

    def lasting(self, seconds: float, *, now: float) -> SessionTimer:
        """The same, given up after so many seconds from now."""
        return self._replace(expires_at=now + seconds + self._margin)

    @property
    def _margin(self) -> float:
        return min(_BEFORE_S, self.interval / 3)


def session_expires(message: HasHeaders) -> Expiry | Malformed | None:
    """Its Session-Expires (§4); None where it has none."""
    value = message.headers.get("Session-Expires")
    if value is None:
        return None
    seconds, semicolon, rest = value.partition(";")
    seconds = seconds.strip(" \t")
    found = parameters(semicolon + rest)
    if not is_number(seconds) or found is None:
        return Malformed("Malformed Session-Expires")
    refresher = next(((each or "").lower() for name, each in found if name == "refresher"), None)
    if refresher not in (None, "uac", "uas"):
        return Malformed("Malformed Session-Expires")
    return Expiry(min(int(seconds), _LONGEST), refresher)


def min_se(message: HasHeaders) -> int:
    """Its Min-SE in seconds (§5); where it has none, or none that can be read, the least that anybody may ask for."""
    text = (message.headers.get("Min-SE") or "").partition(";")[0].strip(" \t")
    return max(MIN_SE, min(int(text), _LONGEST)) if is_number(text) else MIN_SE


def too_small(request: Request) -> bool:
    """Whether it asks for a session that we find too short, and understands a 422 (§9)."""
    asked = session_expires(request)
    return isinstance(asked, Expiry) and asked.seconds < MIN_SE and TIMER in option_tags(request, "Supported")


def agreed_with(request: Request, wanted: int | None, *, now: float) -> SessionTimer | None:
    """What our 2xx to this INVITE or UPDATE puts in force (§9). `wanted`: what we ask for ourselves, in seconds."""
    asked = session_expires(request)
    if not isinstance(asked, Expiry):
        if wanted is None:
            return None
        interval, refresher = max(wanted, min_se(request)), Refresher.OURS
        if TIMER not in option_tags(request, "Supported"):
            refresher = Refresher.ALONE
        return SessionTimer(interval, refresher, now + interval, takes_update(request))
    interval = asked.seconds if wanted is None else min(asked.seconds, max(wanted, min_se(request)))
    # Whoever knows of no timers has it from a proxy on the way, and will not refresh.
    theirs = asked.refresher != "uas" and TIMER in option_tags(request, "Supported")
    interval = max(interval, MIN_SE)
    refresher = Refresher.THEIRS if theirs else Refresher.OURS
    return SessionTimer(interval, refresher, now + interval, takes_update(request))


def answer_lines(agreed: SessionTimer | None, request: Request) -> list[Line]:
    """What our 2xx says of it."""
    if agreed is None:
        return []
    lines = [("Session-Expires", f"{agreed.interval};refresher={_side(agreed.refresher, client=False)}")]
    if TIMER in option_tags(request, "Supported"):
        lines.append(("Require", TIMER))
    return lines


def request_lines(interval: int | None, refresher: Refresher | None, least: int) -> list[Line]:
    """What an INVITE of ours says: what it asks for, and the least that somebody has said to take. `refresher` None: the
    far end may choose (§7.1)."""
    if interval is None:
        return []
    who = "" if refresher is None else f";refresher={_side(refresher, client=True)}"
    lines = [("Session-Expires", f"{interval}{who}")]
    if least > MIN_SE:
        lines.append(("Min-SE", str(least)))
    return lines


def taken_from(response: Response, asked: int | None, *, now: float) -> SessionTimer | None:
    """What a 2xx to our INVITE puts in force (§7.2). `asked`: what we have asked for, in seconds."""
    found = session_expires(response)
    if not isinstance(found, Expiry):
        if asked is None:
            return None
        return SessionTimer(asked, Refresher.ALONE, now + asked, takes_update(response))
    interval = max(found.seconds, MIN_SE)
    refresher = Refresher.THEIRS if found.refresher == "uas" else Refresher.OURS
    return SessionTimer(interval, refresher, now + interval, takes_update(response))


def takes_update(message: HasHeaders) -> bool:
    """Whether its Allow names UPDATE."""
    return any(method.upper() == "UPDATE" for method in message.headers.values("Allow"))


def _side(refresher: Refresher, *, client: bool) -> str:
    """How the refresher is called in a transaction of which we are the client, or the server."""
    return "uac" if (refresher is not Refresher.THEIRS) == client else "uas"
