"""What the four transactions of §17 share: timers, states, inputs, effects, and how a message finds its transaction.

§17 (values of the timers: Table 4), §17.1.3 and §17.2.3 (matching), RFC 6026 §7 and §8 (the Accepted states, Timers L
and M). The machines themselves stand in `client_transaction` and `server_transaction`; who owns them all, their clock
and their flows is `endpoint`. Nothing here knows addresses, dialogs or what a message means.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from bridge.sip.message import Request, Response

MAGIC_COOKIE = "z9hG4bK"  # §8.1.1.7: what every branch of RFC 3261 begins with


class State(StrEnum):
    """The boxes of figures 5 to 8 of RFC 3261, as RFC 6026 redraws two of them."""

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    ACCEPTED = "accepted"
    TERMINATED = "terminated"


class Timer(StrEnum):
    """The timers of Table 4 that belong to a transaction. C is the proxy's; L and M come from RFC 6026."""

    A = "A"  # INVITE request again
    B = "B"  # INVITE transaction given up
    D = "D"  # wait for repeated final responses to an INVITE
    E = "E"  # non-INVITE request again
    F = "F"  # non-INVITE transaction given up
    G = "G"  # final response to an INVITE again
    H = "H"  # wait for the ACK given up
    I = "I"  # noqa: E741 -- the RFC's own name; wait for repeated ACKs
    J = "J"  # wait for repeated non-INVITE requests
    K = "K"  # wait for repeated responses to a non-INVITE
    L = "L"  # wait for repeated INVITEs after a 2xx
    M = "M"  # wait for repeated 2xx


@dataclass(frozen=True, slots=True)
class Timers:
    """T1, T2 and T4 in seconds, and what Table 4 derives from them for unreliable transports.

    On reliable ones A, E and G are not started, and D, I, J and K are zero.
    """

    t1: float = 0.5  # estimate of the round trip
    t2: float = 4.0  # the longest interval between two retransmissions
    t4: float = 5.0  # the longest a message stays in the network

    @property
    def a(self) -> float:
        return self.t1

    @property
    def b(self) -> float:
        return 64 * self.t1

    @property
    def d(self) -> float:
        return 64 * self.t1  # "at least 32 s": the server's Timer H, for which it waits

    @property
    def e(self) -> float:
        return self.t1

    @property
    def f(self) -> float:
        return 64 * self.t1

    @property
    def g(self) -> float:
        return self.t1

    @property
    def h(self) -> float:
        return 64 * self.t1

    @property
    def i(self) -> float:
        return self.t4

    @property
    def j(self) -> float:
        return 64 * self.t1

    @property
    def k(self) -> float:
        return self.t4

    @property
    def l(self) -> float:  # noqa: E743 -- the RFC's own name
        return 64 * self.t1

    @property
    def m(self) -> float:
        return 64 * self.t1


# Inputs and effects live between a machine and its owner for one step, many times per call: slotted, not frozen.


@dataclass(slots=True)
class Respond:
    """The user answers the request of a server transaction."""

    response: Response


@dataclass(slots=True)
class Received:
    """A message of this transaction came from the wire."""

    message: Request | Response


@dataclass(slots=True)
class Fired:
    """A timer's deadline has passed."""

    timer: Timer


@dataclass(slots=True)
class TransportFailed:
    """The transport says that what this transaction sends does not arrive (§17.1.4, §17.2.4, §18.4)."""


@dataclass(slots=True)
class CancelWanted:
    """The user of an INVITE client transaction has lost interest (§9.1)."""


Input: TypeAlias = Respond | Received | Fired | TransportFailed | CancelWanted


@dataclass(slots=True)
class SendMessage:
    """Give these bytes to the transport. Printed once, kept for repetition."""

    data: bytes


@dataclass(slots=True)
class SendCancel:
    """The moment for the CANCEL has come: start its own client transaction (§9.1)."""


@dataclass(slots=True)
class Arm:
    """Set this machine's deadline of `timer` to `delay` seconds from now, whatever it was before."""

    timer: Timer
    delay: float  # 0.0: at once


@dataclass(slots=True)
class Disarm:
    """Forget the deadline of `timer`."""

    timer: Timer


@dataclass(slots=True)
class Pass:
    """Tell the user of this message."""

    message: Request | Response


@dataclass(slots=True)
class TimedOut:
    """Nobody answered in time: Timer B, F or H."""


@dataclass(slots=True)
class Failed:
    """The transport failed; the user is told."""


@dataclass(slots=True)
class Terminated:
    """This machine is over and has no deadline left: forget it."""


Effect: TypeAlias = SendMessage | SendCancel | Arm | Disarm | Pass | TimedOut | Failed | Terminated
Effects: TypeAlias = tuple[Effect, ...]


class TransactionKey(NamedTuple):
    """What makes two messages belong together. Equal keys, one transaction."""

    branch: str  # of the top Via; for RFC 2543 peers what §17.2.3 compares instead
    sent_by: str  # of the top Via, lower case; "" for our own (client) transactions, whose branches are unique
    method: str  # an ACK has its INVITE's key


def server_key(request: Request, method: str | None = None) -> TransactionKey:
    """The key of the server transaction that `request` starts, repeats or acknowledges (§17.2.3).

    `method` asks for another transaction with the same branch: the INVITE that a CANCEL means (§9.2).
    """
    via = request.via
    branch = via.branch
    if method is None:
        method = request.method
        if method == "ACK":
            method = "INVITE"
    if branch is None or branch == MAGIC_COOKIE or not branch.startswith(MAGIC_COOKIE):
        # RFC 2543, or its cookie and nothing that is unique (RFC 4475 §3.2.1): neither the To tag, which an INVITE lacks and its ACK has, nor Via parameters that we fill in.
        parts = (request.uri, request.from_tag or "", request.call_id, str(request.cseq.number), branch or "")
        branch = "\n".join(parts)
    return TransactionKey(branch, via.sent_by.lower(), method)


def client_key(message: Request | Response) -> TransactionKey:
    """The key of the client transaction that sent this request or awaits this response (§17.1.3)."""
    return TransactionKey(message.via.branch or "", "", message.cseq.method)
