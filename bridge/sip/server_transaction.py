"""The two server transactions: INVITE (§17.2.1 with the Accepted state of RFC 6026 §7.1) and all others (§17.2.2).

One function per state of the RFC's figure, one case per arrow. They absorb repeated requests, repeat what was answered,
and refuse to know who the user is, where responses go, and what a request asks for. A 2xx to an INVITE is repeated by
the user (`invite_usage`), not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypedDict

from bridge.errors import LocalProtocolError
from bridge.sip.transaction import (
    Arm,
    Disarm,
    Effects,
    Failed,
    Fired,
    Input,
    Pass,
    Received,
    Respond,
    SendMessage,
    State,
    Terminated,
    TimedOut,
    Timer,
    Timers,
    TransportFailed,
)


class ServerData(TypedDict):
    """A server transaction as plain data. Its deadlines are its owner's."""

    v: Literal[1]
    kind: Literal["invite_server", "non_invite_server"]
    state: str
    last: str  # the bytes of the last response, as latin-1; "" for none
    interval: float
    reliable: bool


class InviteServerTransaction:
    """INVITE server transaction: §17.2.1, RFC 6026 figure 5. Born when the INVITE has been passed to the user."""

    __slots__ = ("interval", "last", "reliable", "state", "timers")

    def __init__(self, timers: Timers, *, reliable: bool) -> None:
        self.timers = timers
        self.reliable = reliable
        self.state = State.PROCEEDING
        self.last = b""  # the response that a repeated INVITE gets; b"" while there is none
        self.interval = 0.0  # Timer G's present one, seconds

    def step(self, given: Input) -> Effects:
        """Take one input; raises `LocalProtocolError` only for a response that the state forbids."""
        return self._STEPS[self.state](self, given)

    def _proceeding(self, given: Input) -> Effects:
        match given:
            case Respond(response):
                status = response.status
                data = response.encode()
                if status < 200:
                    self.last = data
                    return (SendMessage(data),)
                if status < 300:
                    # The 2xx is now the user's to repeat, until its ACK comes (§13.3.1.4).
                    self.state, self.last = State.ACCEPTED, b""
                    return SendMessage(data), Arm(Timer.L, self.timers.l)
                self.state, self.last, self.interval = State.COMPLETED, data, self.timers.g
                if self.reliable:
                    return SendMessage(data), Arm(Timer.H, self.timers.h)
                return SendMessage(data), Arm(Timer.G, self.interval), Arm(Timer.H, self.timers.h)
            case Received(message) if self.last and message.cseq.method != "ACK":
                return (SendMessage(self.last),)
            case TransportFailed():
                return (Failed(),)
        return ()  # an ACK of nothing that was said

    def _completed(self, given: Input) -> Effects:
        match given:
            case Received(message) if message.cseq.method == "ACK":
                self.state, self.last = State.CONFIRMED, b""
                return Disarm(Timer.G), Disarm(Timer.H), Arm(Timer.I, 0.0 if self.reliable else self.timers.i)
            case Received():
                return (SendMessage(self.last),)
            case Fired(Timer.G):
                self.interval = min(2 * self.interval, self.timers.t2)
                return SendMessage(self.last), Arm(Timer.G, self.interval)
            case Fired(Timer.H):
                self.state, self.last = State.TERMINATED, b""
                return Disarm(Timer.G), TimedOut(), Terminated()
            case TransportFailed():
                return (Failed(),)
            case Respond(response):
                raise _out_of_place(response.status, self.state)
        return ()

    def _accepted(self, given: Input) -> Effects:
        match given:
            case Respond(response) if 200 <= response.status < 300:
                return (SendMessage(response.encode()),)
            case Received(message) if message.cseq.method == "ACK":
                return (Pass(message),)
            case Fired(Timer.L):
                self.state = State.TERMINATED
                return (Terminated(),)
            case TransportFailed():
                return (Failed(),)
            case Respond(response):
                raise _out_of_place(response.status, self.state)
        return ()  # a repeated INVITE: the 2xx is on its way, or will be repeated

    def _confirmed(self, given: Input) -> Effects:
        match given:
            case Fired(Timer.I):
                self.state = State.TERMINATED
                return (Terminated(),)
            case Respond(response):
                raise _out_of_place(response.status, self.state)
        return ()  # repeated ACKs and late INVITEs end here

    def _terminated(self, given: Input) -> Effects:
        if isinstance(given, Respond):
            raise _out_of_place(given.response.status, self.state)
        return ()

    _STEPS: ClassVar[Mapping[State, Callable[[InviteServerTransaction, Input], Effects]]] = {
        State.PROCEEDING: _proceeding,
        State.COMPLETED: _completed,
        State.ACCEPTED: _accepted,
        State.CONFIRMED: _confirmed,
        State.TERMINATED: _terminated,
    }

    def to_data(self) -> ServerData:
        return _to_data("invite_server", self.state, self.last, self.interval, reliable=self.reliable)

    @classmethod
    def from_data(cls, data: Mapping[str, Any], timers: Timers) -> InviteServerTransaction:
        self = cls(timers, reliable=data["reliable"])
        self.state, self.last, self.interval = State(data["state"]), data["last"].encode("latin-1"), data["interval"]
        return self


class NonInviteServerTransaction:
    """Server transaction of every other method: §17.2.2. Born when the request has been passed to the user."""

    __slots__ = ("last", "reliable", "state", "timers")

    def __init__(self, timers: Timers, *, reliable: bool) -> None:
        self.timers = timers
        self.reliable = reliable
        self.state = State.TRYING
        self.last = b""  # the response that a repeated request gets; b"" while there is none

    def step(self, given: Input) -> Effects:
        """Take one input. Never raises: a second final response is dropped, as §17.2.2 demands."""
        return self._STEPS[self.state](self, given)

    def _open(self, given: Input) -> Effects:
        """Trying and Proceeding: they differ in having a response to repeat, and so in having sent one that can fail."""
        match given:
            case Respond(response):
                self.last = data = response.encode()
                if response.status < 200:
                    self.state = State.PROCEEDING
                    return (SendMessage(data),)
                self.state = State.COMPLETED
                return SendMessage(data), Arm(Timer.J, 0.0 if self.reliable else self.timers.j)
            case Received() if self.last:
                return (SendMessage(self.last),)
            case TransportFailed() if self.last:
                self.state, self.last = State.TERMINATED, b""
                return Failed(), Terminated()
        return ()

    def _completed(self, given: Input) -> Effects:
        match given:
            case Received():
                return (SendMessage(self.last),)
            case Fired(Timer.J):
                self.state, self.last = State.TERMINATED, b""
                return (Terminated(),)
            case TransportFailed():
                self.state, self.last = State.TERMINATED, b""
                return Disarm(Timer.J), Failed(), Terminated()
        return ()

    def _terminated(self, given: Input) -> Effects:
        return ()

    _STEPS: ClassVar[Mapping[State, Callable[[NonInviteServerTransaction, Input], Effects]]] = {
        State.TRYING: _open,
        State.PROCEEDING: _open,
        State.COMPLETED: _completed,
        State.TERMINATED: _terminated,
    }

    def to_data(self) -> ServerData:
        return _to_data("non_invite_server", self.state, self.last, 0.0, reliable=self.reliable)

    @classmethod
    def from_data(cls, data: Mapping[str, Any], timers: Timers) -> NonInviteServerTransaction:
        self = cls(timers, reliable=data["reliable"])
        self.state, self.last = State(data["state"]), data["last"].encode("latin-1")
        return self


def _to_data(
    kind: Literal["invite_server", "non_invite_server"], state: State, last: bytes, interval: float, *, reliable: bool
) -> ServerData:
    return {
        "v": 1,
        "kind": kind,
        "state": state.value,
        "last": last.decode("latin-1"),
        "interval": interval,
        "reliable": reliable,
    }


def _out_of_place(status: int, state: State) -> LocalProtocolError:
    return LocalProtocolError(f"cannot send {status} when {state.name}")
