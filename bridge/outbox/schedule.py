"""When a webhook is tried again, and when it is given up (contract §3.4).

Pure arithmetic over what one attempt brought. Refuses to know queues, endpoints, HTTP libraries and the time: delays
are relative, and chance is a number handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

# 4xx answers that promise nothing about the next attempt: timeout, too early, too many (RFC 9110, 8470, 6585).
_PASSING_CLIENT_ERRORS = frozenset({408, 425, 429})
_CLIENT_ERROR_ATTEMPTS = 3

Error = Literal[
    "timeout",  # no complete answer in time
    "refused",  # nobody listens there
    "unreachable",  # no way to that address
    "dns",  # no address for that name
    "tls",  # no trust, or no TLS at all
    "closed",  # the connection ended before the answer did
    "protocol",  # what came is no HTTP
    "too_large",  # the answer is longer than we read
    "invalid_url",  # no request can be made of that URL
    "unsigned",  # no secret is known for the endpoint: nothing was sent
    "canceled",  # we are stopping
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt brought. `status` and `error` are both set when an answer began and was not read to its end."""

    status: int | None  # the HTTP status, None when no answer came
    error: Error | None  # what broke; None: the answer was read to its end
    retry_after: float | None  # seconds, from Retry-After
    took_s: float  # from the start of the attempt to its end
    body: bytes = b""  # the answer's body, at most 64 KiB; empty for notifications, whose replies are ignored
    detail: str = ""  # what the operating system or the library said, for a person; holds no secret
    content_type: str | None = None  # the answer's Content-Type as received

    @property
    def delivered(self) -> bool:
        """True when the endpoint said 2xx: it has the event, whatever became of its reply."""
        return self.status is not None and 200 <= self.status < 300


class Unusable(Protocol):
    """A decision's reply that is not of the documented shape (`bridge.engine.inputs.InvalidReply` is one)."""

    @property
    def detail(self) -> str:
        """A sentence for a person, with what was received."""
        ...

    @property
    def field(self) -> str | None:
        """Where in the reply: `actions.0.code`."""
        ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """The endpoint has the event."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again."""

    after: float  # seconds from the end of the failed attempt
    hold: float = 0.0  # seconds the endpoint asked us to keep away (Retry-After)


@dataclass(frozen=True, slots=True)
class Dead:
    """Given up: the stream goes on without it."""

    reason: Literal["client_error", "exhausted"]


@dataclass(frozen=True, slots=True)
class DisableEndpoint:
    """410: nobody is there any more, for this or any other event."""


Verdict: TypeAlias = Accepted | Retry | Dead | DisableEndpoint

ACCEPTED = Accepted()


@dataclass(frozen=True, slots=True)
class Schedule:
    """The delays before the first, second, third … attempt. After the last one an event is dead."""

    delays: tuple[float, ...] = (0.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 10800.0, 21600.0, 43200.0)
    jitter: float = 0.1  # each delay is stretched or shrunk by up to this part of it

    def verdict(self, outcome: Outcome, attempts: int, *, chance: float) -> Verdict:
        """What follows from `outcome`, the `attempts`-th one (from 1). `chance` is any number from 0 to 1."""
        if outcome.delivered:
            return ACCEPTED
        status = outcome.status
        if status == 410:
            return DisableEndpoint()
        if attempts >= len(self.delays):
            return Dead("exhausted")
        refused = status is not None and 400 <= status < 500 and status not in _PASSING_CLIENT_ERRORS
        if refused and attempts >= _CLIENT_ERROR_ATTEMPTS:
            return Dead("client_error")
        after = self.delays[attempts] * (1.0 + self.jitter * (2.0 * chance - 1.0))
        # An endpoint may ask for more patience than the schedule has, never for less: a careless `Retry-After: 0` would
        # use up all attempts at once.
        hold = self.hold(outcome)
        return Retry(max(after, hold), hold)

    def hold(self, outcome: Outcome) -> float:
        """For how many seconds the endpoint asked us to keep away: 0 if it did not, at most our longest delay."""
        return min(max(outcome.retry_after or 0.0, 0.0), max(self.delays))
