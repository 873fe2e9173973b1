"""The two client transactions: INVITE (§17.1.1 with the Accepted state of RFC 6026 §7.2) and all others (§17.1.2).

One function per state of the RFC's figure, one case per arrow; and the requests that a client transaction makes out of
its own: the ACK of a refusal (§17.1.1.3) and the CANCEL (§9.1), whose moment the INVITE machine knows. They refuse to
know who the user is and where requests go. The ACK of a 2xx is the user's (`dialog`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, TypedDict

from bridge.errors import LocalProtocolError
from bridge.sip.headers import Headers, Line
from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from bridge.sip.transaction import (
    Arm,
    CancelWanted,
    Disarm,
    Effects,
    Failed,
    Fired,
    Input,
    Pass,
    Received,
    SendCancel,
    SendMessage,
    State,
    Terminated,
    TimedOut,
    Timer,
    Timers,
    TransportFailed,
)


class ClientData(TypedDict):
    """A client transaction as plain data. Its deadlines are its owner's."""

    v: Literal[1]
    kind: Literal["invite_client", "non_invite_client"]
    state: str
    request: str  # the request's bytes as latin-1; "" once it is not needed any more
    repeated: str  # what is sent again: the request, or the ACK of a refusal; latin-1
    interval: float
    canceled: bool
    reliable: bool


class InviteClientTransaction:
    """INVITE client transaction: §17.1.1, RFC 6026 figure 4. Born with the INVITE; `begin` sends it."""

    __slots__ = ("canceled", "interval", "patience_s", "reliable", "repeated", "request", "state", "timers")

    def __init__(self, request: Request, timers: Timers, *, reliable: bool, patience_s: float | None = None) -> None:
        """`patience_s`: for a first response, instead of Timer B, where somebody else can be asked (RFC 3263 §4.3)."""
        self.timers = timers
        self.patience_s = timers.b if patience_s is None else min(patience_s, timers.b)
        self.reliable = reliable
        self.state = State.CALLING
        self.request: Request | None = request  # kept until a final response: ACK and CANCEL are made from it
        self.repeated = request.encode()
        self.interval = timers.a  # Timer A's present one, seconds
        self.canceled = False

    def begin(self) -> Effects:
        if self.reliable:
            return SendMessage(self.repeated), Arm(Timer.B, self.patience_s)
        return SendMessage(self.repeated), Arm(Timer.A, self.interval), Arm(Timer.B, self.patience_s)

    def take_up(self) -> None:
        """In place of `begin`, where another process has sent the INVITE long enough ago: it is not sent again.

        As in Proceeding, a CANCEL may go at once: the reason why it has to wait (§9.1) is that it might overtake its INVITE.
        """
        self.state, self.repeated = State.PROCEEDING, b""

    def step(self, given: Input) -> Effects:
        """Take one input. Never raises."""
        return self._STEPS[self.state](self, given)

    def _calling(self, given: Input) -> Effects:
        match given:
            case Received(Response() as response):
                if response.status >= 200:
                    return Disarm(Timer.A), Disarm(Timer.B), *self._final(response)
                self.state, self.repeated = State.PROCEEDING, b""
                if self.canceled:
                    return Disarm(Timer.A), Pass(response), SendCancel(), Arm(Timer.B, self.timers.b)
                return Disarm(Timer.A), Disarm(Timer.B), Pass(response)
            case Fired(Timer.A):
                self.interval *= 2
                return SendMessage(self.repeated), Arm(Timer.A, self.interval)
            case Fired(Timer.B):
                self._forget(State.TERMINATED)
                return Disarm(Timer.A), TimedOut(), Terminated()
            case TransportFailed():
                self._forget(State.TERMINATED)
                return Disarm(Timer.A), Disarm(Timer.B), Failed(), Terminated()
            case CancelWanted():
                self.canceled = True  # not before a provisional response has come: §9.1
        return ()

    def _proceeding(self, given: Input) -> Effects:
        match given:
            case Received(Response() as response):
                if response.status < 200:
                    return (Pass(response),)
                if self.canceled:
                    return Disarm(Timer.B), *self._final(response)
                return self._final(response)
            case CancelWanted() if not self.canceled:
                # §9.1: without a final response in 64*T1 the INVITE counts as canceled. Timer B is free for that.
                self.canceled = True
                return SendCancel(), Arm(Timer.B, self.timers.b)
            case Fired(Timer.B):
                self._forget(State.TERMINATED)
                return TimedOut(), Terminated()
        return ()

    def _completed(self, given: Input) -> Effects:
        match given:
            case Received(Response() as response) if response.status >= 300:
                return (SendMessage(self.repeated),)
            case Fired(Timer.D):
                self._forget(State.TERMINATED)
                return (Terminated(),)
            case TransportFailed():
                self._forget(State.TERMINATED)
                return Disarm(Timer.D), Failed(), Terminated()
        return ()

    def _accepted(self, given: Input) -> Effects:
        match given:
            case Received(Response() as response) if 200 <= response.status < 300:
                return (Pass(response),)
            case Fired(Timer.M):
                self.state = State.TERMINATED
                return (Terminated(),)
        return ()

    def _terminated(self, given: Input) -> Effects:
        return ()

    def _final(self, response: Response) -> Effects:
        request = self.request
        if request is None:
            raise LocalProtocolError(f"no INVITE left to acknowledge when {self.state.name}")
        if response.status < 300:
            self._forget(State.ACCEPTED)
            return Pass(response), Arm(Timer.M, self.timers.m)
        self._forget(State.COMPLETED)
        self.repeated = acknowledge(request, response).encode()
        return SendMessage(self.repeated), Pass(response), Arm(Timer.D, 0.0 if self.reliable else self.timers.d)

    def _forget(self, state: State) -> None:
        self.state, self.request, self.repeated = state, None, b""

    _STEPS: ClassVar[Mapping[State, Callable[[InviteClientTransaction, Input], Effects]]] = {
        State.CALLING: _calling,
        State.PROCEEDING: _proceeding,
        State.COMPLETED: _completed,
        State.ACCEPTED: _accepted,
        State.TERMINATED: _terminated,
    }

    def to_data(self) -> ClientData:
        return {
            "v": 1,
            "kind": "invite_client",
            "state": self.state.value,
            "request": "" if self.request is None else self.request.encode().decode("latin-1"),
            "repeated": self.repeated.decode("latin-1"),
            "interval": self.interval,
            "canceled": self.canceled,
            "reliable": self.reliable,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any], timers: Timers) -> InviteClientTransaction:
        self = cls.__new__(cls)
        self.timers, self.reliable, self.state = timers, data["reliable"], State(data["state"])
        self.patience_s = timers.b
        request = parse(data["request"].encode("latin-1")) if data["request"] else None
        self.request = request if isinstance(request, Request) else None
        self.repeated = data["repeated"].encode("latin-1")
        self.interval, self.canceled = data["interval"], data["canceled"]
        return self


class NonInviteClientTransaction:
    """Client transaction of every other method: §17.1.2. Born with the request; `begin` sends it."""

    __slots__ = ("interval", "reliable", "repeated", "state", "timers")

    def __init__(self, request: Request, timers: Timers, *, reliable: bool) -> None:
        self.timers = timers
        self.reliable = reliable
        self.state = State.TRYING
        self.repeated = request.encode()
        self.interval = timers.e  # Timer E's present one, seconds

    def begin(self) -> Effects:
        if self.reliable:
            return SendMessage(self.repeated), Arm(Timer.F, self.timers.f)
        return SendMessage(self.repeated), Arm(Timer.E, self.interval), Arm(Timer.F, self.timers.f)

    def step(self, given: Input) -> Effects:
        """Take one input. Never raises."""
        return self._STEPS[self.state](self, given)

    def _open(self, given: Input) -> Effects:
        """Trying and Proceeding: they differ only in Timer E's interval, which a provisional response sets to T2."""
        match given:
            case Received(Response() as response) if response.status < 200:
                self.state = State.PROCEEDING
                return (Pass(response),)
            case Received(Response() as response):
                self.state, self.repeated = State.COMPLETED, b""
                wait = Arm(Timer.K, 0.0 if self.reliable else self.timers.k)
                return Disarm(Timer.E), Disarm(Timer.F), Pass(response), wait
            case Fired(Timer.E):
                doubled = min(2 * self.interval, self.timers.t2)
                self.interval = doubled if self.state is State.TRYING else self.timers.t2
                return SendMessage(self.repeated), Arm(Timer.E, self.interval)
            case Fired(Timer.F):
                self.state, self.repeated = State.TERMINATED, b""
                return Disarm(Timer.E), TimedOut(), Terminated()
            case TransportFailed():
                self.state, self.repeated = State.TERMINATED, b""
                return Disarm(Timer.E), Disarm(Timer.F), Failed(), Terminated()
        return ()

    def _completed(self, given: Input) -> Effects:
        match given:
            case Fired(Timer.K):
                self.state = State.TERMINATED
                return (Terminated(),)
        return ()

    def _terminated(self, given: Input) -> Effects:
        return ()

    _STEPS: ClassVar[Mapping[State, Callable[[NonInviteClientTransaction, Input], Effects]]] = {
        State.TRYING: _open,
        State.PROCEEDING: _open,
        State.COMPLETED: _completed,
        State.TERMINATED: _terminated,
    }

    def to_data(self) -> ClientData:
        return {
            "v": 1,
            "kind": "non_invite_client",
            "state": self.state.value,
            "request": "",
            "repeated": self.repeated.decode("latin-1"),
            "interval": self.interval,
            "canceled": False,
            "reliable": self.reliable,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any], timers: Timers) -> NonInviteClientTransaction:
        self = cls.__new__(cls)
        self.timers, self.reliable, self.state = timers, data["reliable"], State(data["state"])
        self.repeated, self.interval = data["repeated"].encode("latin-1"), data["interval"]
        return self


def acknowledge(invite: Request, refusal: Response) -> Request:
    """The ACK of a final response from 300 on: in the INVITE's transaction, so with its branch (§17.1.1.3)."""
    return _companion(invite, "ACK", refusal.headers.get("to") or "")


def cancel(invite: Request, headers: Iterable[Line] = ()) -> Request:
    """The CANCEL of a pending INVITE: its twin in everything but the method (§9.1). `headers` come last."""
    request = _companion(invite, "CANCEL", invite.headers.get("to") or "")
    for name, value in headers:
        request.headers.add(name, value)
    return request


def _companion(invite: Request, method: str, to: str) -> Request:
    headers = Headers()
    headers.add("via", str(invite.via))
    headers.add("max-forwards", "70")
    for route in invite.headers.lines("route"):
        headers.add("route", route)
    headers.add("from", invite.headers.get("from") or "")
    headers.add("to", to)
    headers.add("call-id", invite.call_id)
    headers.add("cseq", f"{invite.cseq.number} {method}")
    return Request(method, invite.uri, headers)
