"""The INVITE usage of one dialog (RFC 5057 §2): what repeats a 2xx, waits for its ACK, and says when a BYE may go.

§13.3.1.4 (the 2xx is the user's to repeat, on every transport), §13.2.2.4 (so is its ACK), §14.1 and §14.2 (one INVITE
at a time), §15 (no BYE by the called side before the ACK or its timeout), RFC 5407 §3.1.5 (a re-INVITE before the ACK).
One function per state, effects as data. It refuses to know calls, SDP, and how bytes leave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict

from bridge.errors import LocalProtocolError
from bridge.sip.flow import Flow, Send
from bridge.sip.message import Request
from bridge.sip.transaction import Timers


class UsageState(StrEnum):
    """Which INVITE is under way in this dialog."""

    IDLE = "idle"  # none
    INVITED = "invited"  # theirs, without our final response
    ANSWERED = "answered"  # theirs, our 2xx waits for its ACK
    INVITING = "inviting"  # ours, without their final response
    ENDED = "ended"  # a BYE has come or gone


class UsageTimer(StrEnum):
    """The two deadlines of §13.3.1.4."""

    REPEAT = "repeat"  # T1, doubled up to T2: the 2xx again
    GIVE_UP = "give_up"  # 64*T1: no ACK will come


# Inputs


@dataclass(slots=True)
class InviteArrived:
    """The far end sent an INVITE, the first or a later one, with this CSeq number."""

    sequence: int


@dataclass(slots=True)
class Answered:
    """Our 2xx to that INVITE has left: these bytes, that way."""

    sequence: int
    answer: Send


@dataclass(slots=True)
class Declined:
    """Our final response from 300 on to that INVITE has left: the transaction sees to the rest."""

    sequence: int


@dataclass(slots=True)
class AckReceived:
    """An ACK came that the transactions did not keep for themselves."""

    ack: Request


@dataclass(slots=True)
class InviteSent:
    """Our INVITE has left. `LocalProtocolError` while another one is under way (§14.1)."""

    sequence: int


@dataclass(slots=True)
class AnswerReceived:
    """A 2xx to our INVITE came, for the first time or again."""

    sequence: int


@dataclass(slots=True)
class AckSent:
    """Our ACK to that 2xx has left: these bytes, that way. A repeated 2xx gets it again."""

    sequence: int
    ack: Send


@dataclass(slots=True)
class InviteFailed:
    """Our INVITE got a final response from 300 on, or none at all."""

    sequence: int


@dataclass(slots=True)
class HangUp:
    """We want to end the usage by a BYE, as soon as that is allowed."""


@dataclass(slots=True)
class ByeReceived:
    """The far end ended it."""


@dataclass(slots=True)
class UsageFired:
    """A timer's deadline has passed."""

    timer: UsageTimer


UsageInput: TypeAlias = (
    InviteArrived
    | Answered
    | Declined
    | AckReceived
    | InviteSent
    | AnswerReceived
    | AckSent
    | InviteFailed
    | HangUp
    | ByeReceived
    | UsageFired
)

# Effects


@dataclass(slots=True)
class RepeatResponse:
    """Send the 2xx again. Nothing needs to be stored for that: it has left before."""

    send: Send


@dataclass(slots=True)
class RepeatAck:
    """Send the ACK again: the far end has repeated its 2xx."""

    send: Send


@dataclass(slots=True)
class ArmUsage:
    """Set the deadline of `timer` to `delay` seconds from now, whatever it was before."""

    timer: UsageTimer
    delay: float


@dataclass(slots=True)
class DisarmUsage:
    """Forget the deadline of `timer`."""

    timer: UsageTimer


@dataclass(slots=True)
class Acknowledged:
    """The first ACK to our 2xx with this CSeq number; it carries the answer where our 2xx carried the offer."""

    sequence: int
    ack: Request


@dataclass(slots=True)
class AckMissing:
    """No ACK in 64*T1. The session counts as confirmed, and should be ended by a BYE (§13.3.1.4)."""

    sequence: int


@dataclass(slots=True)
class RefuseInvite:
    """Answer the INVITE with this CSeq number so: 500 with a random Retry-After of 0 to 10 s, 491, or 487."""

    sequence: int
    status: Literal[487, 491, 500]


@dataclass(slots=True)
class NeedAck:
    """The first 2xx to our INVITE: acknowledge it, then say `AckSent`."""

    sequence: int


@dataclass(slots=True)
class ByeAllowed:
    """The BYE that `HangUp` asked for may go now."""


UsageEffect: TypeAlias = (
    RepeatResponse
    | RepeatAck
    | ArmUsage
    | DisarmUsage
    | Acknowledged
    | AckMissing
    | RefuseInvite
    | NeedAck
    | ByeAllowed
)
UsageEffects: TypeAlias = tuple[UsageEffect, ...]

_DISARM = (DisarmUsage(UsageTimer.REPEAT), DisarmUsage(UsageTimer.GIVE_UP))


class UsageData(TypedDict):
    """The usage as plain data. `answer` and `ack` are [transport, listener, host, port, bytes as latin-1]."""

    v: Literal[1]
    state: str
    sequence: int
    interval: float
    leaving: bool
    answer: list[str | int] | None
    acked: int
    ack: list[str | int] | None


class InviteUsage:
    """The INVITE usage of one dialog, either side. Owned by whoever owns the dialog; its timers are the owner's to keep."""

    __slots__ = ("ack", "acked", "answer", "interval", "leaving", "sequence", "state", "timers")

    def __init__(self, timers: Timers) -> None:
        self.timers = timers
        self.state = UsageState.IDLE
        self.sequence = 0  # CSeq number of the INVITE under way
        self.interval = 0.0  # between two copies of the 2xx, seconds
        self.leaving = False  # a BYE is wanted, but not allowed yet
        self.answer: Send | None = None  # our 2xx, until its ACK
        self.acked = 0  # CSeq number of our last INVITE that was answered with a 2xx
        self.ack: Send | None = None  # its ACK

    @property
    def may_bye(self) -> bool:
        """False exactly while a 2xx of ours has no ACK and its time is not over (§15)."""
        return self.state is not UsageState.ANSWERED

    def resume(self) -> UsageEffects:
        """After `from_data`: what a dead process may have left undone (the 2xx again, until its ACK)."""
        if self.state is not UsageState.ANSWERED or self.answer is None:
            return ()
        self.interval = self.timers.t1
        return (
            RepeatResponse(self.answer),
            ArmUsage(UsageTimer.REPEAT, self.interval),
            ArmUsage(UsageTimer.GIVE_UP, 64 * self.timers.t1),
        )

    def move(self, flow: Flow) -> None:
        """The connection that our 2xx left by is lost: repeat it by this one."""
        if self.answer is not None:
            self.answer = self.answer._replace(flow=flow)

    def step(self, given: UsageInput) -> UsageEffects:
        """Take one input; raises `LocalProtocolError` where we break a rule ourselves, never for what came."""
        match given:
            case AnswerReceived(sequence) if sequence == self.acked and self.ack is not None:
                return (RepeatAck(self.ack),)  # in every state: a lost ACK is ours to repeat as long as they ask
            case AckSent(sequence, ack):
                self.acked, self.ack = sequence, ack
                return ()
        return self._STEPS[self.state](self, given)

    def _idle(self, given: UsageInput) -> UsageEffects:
        match given:
            case InviteArrived(sequence):
                self.state, self.sequence = UsageState.INVITED, sequence
            case InviteSent(sequence):
                self.state, self.sequence = UsageState.INVITING, sequence
            case AnswerReceived(sequence):
                return (NeedAck(sequence),)  # a fork's second answer, or one after our CANCEL
            case HangUp():
                self.state = UsageState.ENDED
                return (ByeAllowed(),)
            case ByeReceived():
                self.state = UsageState.ENDED
            case Answered(sequence) | Declined(sequence):
                raise LocalProtocolError(f"no INVITE with CSeq {sequence} to answer")
        return ()

    def _invited(self, given: UsageInput) -> UsageEffects:
        match given:
            case Answered(sequence, answer) if sequence == self.sequence:
                self.state, self.answer, self.interval = UsageState.ANSWERED, answer, self.timers.t1
                return (
                    ArmUsage(UsageTimer.REPEAT, self.interval),
                    ArmUsage(UsageTimer.GIVE_UP, 64 * self.timers.t1),
                )
            case Declined(sequence) if sequence == self.sequence:
                self.state = UsageState.IDLE
                return self._leave_if_wanted()
            case InviteArrived(sequence):
                return (RefuseInvite(sequence, 500),)
            case HangUp():
                # A final response ends a call before its answer; in a call the BYE may pass the pending re-INVITE by.
                self.state = UsageState.ENDED
                return RefuseInvite(self.sequence, 487), ByeAllowed()
            case ByeReceived():
                self.state = UsageState.ENDED
                return (RefuseInvite(self.sequence, 487),)  # §15.1.2
            case Answered(sequence) | Declined(sequence):
                raise LocalProtocolError(f"INVITE with CSeq {self.sequence} is pending, not {sequence}")
            case InviteSent():
                raise LocalProtocolError("no INVITE while theirs is pending")
        return ()

    def _answered(self, given: UsageInput) -> UsageEffects:
        match given:
            case AckReceived(ack) if ack.cseq.number == self.sequence:
                self.state, self.answer = UsageState.IDLE, None
                return *_DISARM, Acknowledged(self.sequence, ack), *self._leave_if_wanted()
            case UsageFired(UsageTimer.REPEAT) if self.answer is not None:
                self.interval = min(2 * self.interval, self.timers.t2)
                return RepeatResponse(self.answer), ArmUsage(UsageTimer.REPEAT, self.interval)
            case UsageFired(UsageTimer.GIVE_UP):
                self.state, self.answer = UsageState.IDLE, None
                return DisarmUsage(UsageTimer.REPEAT), AckMissing(self.sequence), *self._leave_if_wanted()
            case InviteArrived(sequence):
                return (RefuseInvite(sequence, 491),)  # the ACK was lost or overtaken: theirs to try again (RFC 5407)
            case HangUp():
                self.leaving = True
            case ByeReceived():
                self.state, self.answer = UsageState.ENDED, None
                return _DISARM
            case Answered() | Declined() | InviteSent():
                raise LocalProtocolError(f"the 2xx to CSeq {self.sequence} waits for its ACK")
        return ()

    def _inviting(self, given: UsageInput) -> UsageEffects:
        match given:
            case AnswerReceived(sequence) if sequence == self.sequence:
                self.state = UsageState.IDLE
                return NeedAck(sequence), *self._leave_if_wanted()
            case InviteFailed(sequence) if sequence == self.sequence:
                self.state = UsageState.IDLE
                return self._leave_if_wanted()
            case InviteArrived(sequence):
                return (RefuseInvite(sequence, 491),)  # glare: §14.2
            case HangUp():
                self.state = UsageState.ENDED
                return (ByeAllowed(),)
            case ByeReceived():
                self.state = UsageState.ENDED
            case InviteSent() | Answered() | Declined():
                raise LocalProtocolError(f"our INVITE with CSeq {self.sequence} is pending")
        return ()

    def _ended(self, given: UsageInput) -> UsageEffects:
        match given:
            case AnswerReceived(sequence):
                return (NeedAck(sequence),)  # BYE and 2xx crossed: the 2xx still wants its ACK (§13.2.2.4)
            case InviteSent() | Answered():
                raise LocalProtocolError("the usage has ended")
        return ()

    def _leave_if_wanted(self) -> UsageEffects:
        if not self.leaving:
            return ()
        self.state = UsageState.ENDED
        return (ByeAllowed(),)

    _STEPS: ClassVar[Mapping[UsageState, Callable[[InviteUsage, UsageInput], UsageEffects]]] = {
        UsageState.IDLE: _idle,
        UsageState.INVITED: _invited,
        UsageState.ANSWERED: _answered,
        UsageState.INVITING: _inviting,
        UsageState.ENDED: _ended,
    }

    def to_data(self) -> UsageData:
        return {
            "v": 1,
            "state": self.state.value,
            "sequence": self.sequence,
            "interval": self.interval,
            "leaving": self.leaving,
            "answer": _send_to_data(self.answer),
            "acked": self.acked,
            "ack": _send_to_data(self.ack),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any], timers: Timers) -> InviteUsage:
        """The usage as stored, with no timer armed: `resume` it."""
        self = cls(timers)
        self.state = UsageState(data["state"])
        self.sequence, self.interval, self.leaving = data["sequence"], data["interval"], data["leaving"]
        self.answer, self.acked, self.ack = _send_from_data(data["answer"]), data["acked"], _send_from_data(data["ack"])
        return self


def _send_to_data(send: Send | None) -> list[str | int] | None:
    return None if send is None else [*send.flow.to_data(), send.data.decode("latin-1")]


def _send_from_data(data: list[Any] | None) -> Send | None:
    return None if data is None else Send(Flow(*data[:-1]), data[-1].encode("latin-1"))
