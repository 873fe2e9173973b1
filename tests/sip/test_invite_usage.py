"""The INVITE usage: the 2xx until its ACK, one INVITE at a time, no BYE too early."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bridge.errors import LocalProtocolError
from bridge.sip.flow import Flow, Send
from bridge.sip.invite_usage import (
    AckMissing,
    Acknowledged,
    AckReceived,
    AckSent,
    Answered,
    AnswerReceived,
    ArmUsage,
    ByeAllowed,
    ByeReceived,
    Declined,
    DisarmUsage,
    HangUp,
    InviteArrived,
    InviteFailed,
    InviteSent,
    InviteUsage,
    NeedAck,
    RefuseInvite,
    RepeatAck,
    RepeatResponse,
    UsageEffect,
    UsageEffects,
    UsageFired,
    UsageInput,
    UsageState,
    UsageTimer,
)
from bridge.sip.transaction import Timers
from tests.sip.bench import request, written

FLOW = Flow("udp", "udp:0.0.0.0:5060", "192.0.2.4", 5070)
OK, ACK = Send(FLOW, b"the 2xx"), Send(FLOW, b"the ACK")


def ack(sequence: int) -> AckReceived:
    return AckReceived(request("ACK", CSeq=f"{sequence} ACK"))


def usage(*given: UsageInput) -> InviteUsage:
    made = InviteUsage(Timers())
    for each in given:
        made.step(each)
    return made


STATES: dict[str, Callable[[], InviteUsage]] = {
    "idle": usage,
    "invited": lambda: usage(InviteArrived(7)),
    "answered": lambda: usage(InviteArrived(7), Answered(7, OK)),
    "answered, leaving": lambda: usage(InviteArrived(7), Answered(7, OK), HangUp()),
    "inviting": lambda: usage(InviteSent(7)),
    "idle, has acknowledged": lambda: usage(InviteSent(7), AnswerReceived(7), AckSent(7, ACK)),
    "ended": lambda: usage(ByeReceived()),
}

INPUTS: list[UsageInput] = [
    InviteArrived(8),
    Answered(7, OK),
    Declined(7),
    ack(7),
    ack(6),
    InviteSent(9),
    AnswerReceived(7),
    InviteFailed(7),
    HangUp(),
    ByeReceived(),
    UsageFired(UsageTimer.REPEAT),
    UsageFired(UsageTimer.GIVE_UP),
]

TABLE = """
    [idle]
    InviteArrived 8: > invited
    Answered 7: LocalProtocolError
    Declined 7: LocalProtocolError
    InviteSent 9: > inviting
    AnswerReceived 7: NeedAck 7
    HangUp: ByeAllowed > ended
    ByeReceived: > ended
    nothing: AckReceived 7, AckReceived 6, InviteFailed 7, repeat, give_up

    [invited]
    InviteArrived 8: refuse 8 with 500
    Answered 7: arm repeat 0.5; arm give_up 32 > answered
    Declined 7: > idle
    InviteSent 9: LocalProtocolError
    HangUp: refuse 7 with 487; ByeAllowed > ended
    ByeReceived: refuse 7 with 487 > ended
    nothing: AckReceived 7, AckReceived 6, AnswerReceived 7, InviteFailed 7, repeat, give_up

    [answered]
    InviteArrived 8: refuse 8 with 491
    Answered 7: LocalProtocolError
    Declined 7: LocalProtocolError
    AckReceived 7: disarm repeat; disarm give_up; Acknowledged 7 > idle
    InviteSent 9: LocalProtocolError
    ByeReceived: disarm repeat; disarm give_up > ended
    repeat: the 2xx; arm repeat 1
    give_up: disarm repeat; AckMissing 7 > idle
    nothing: AckReceived 6, AnswerReceived 7, InviteFailed 7, HangUp

    [answered, leaving]
    InviteArrived 8: refuse 8 with 491
    Answered 7: LocalProtocolError
    Declined 7: LocalProtocolError
    AckReceived 7: disarm repeat; disarm give_up; Acknowledged 7; ByeAllowed > ended
    InviteSent 9: LocalProtocolError
    ByeReceived: disarm repeat; disarm give_up > ended
    repeat: the 2xx; arm repeat 1
    give_up: disarm repeat; AckMissing 7; ByeAllowed > ended
    nothing: AckReceived 6, AnswerReceived 7, InviteFailed 7, HangUp

    [inviting]
    InviteArrived 8: refuse 8 with 491
    Answered 7: LocalProtocolError
    Declined 7: LocalProtocolError
    InviteSent 9: LocalProtocolError
    AnswerReceived 7: NeedAck 7 > idle
    InviteFailed 7: > idle
    HangUp: ByeAllowed > ended
    ByeReceived: > ended
    nothing: AckReceived 7, AckReceived 6, repeat, give_up

    [idle, has acknowledged]
    InviteArrived 8: > invited
    Answered 7: LocalProtocolError
    Declined 7: LocalProtocolError
    InviteSent 9: > inviting
    AnswerReceived 7: the ACK
    HangUp: ByeAllowed > ended
    ByeReceived: > ended
    nothing: AckReceived 7, AckReceived 6, InviteFailed 7, repeat, give_up

    [ended]
    Answered 7: LocalProtocolError
    InviteSent 9: LocalProtocolError
    AnswerReceived 7: NeedAck 7
    nothing: InviteArrived 8, Declined 7, AckReceived 7, AckReceived 6, InviteFailed 7, HangUp, ByeReceived, repeat, give_up
"""


def told(effect: UsageEffect) -> str:
    match effect:
        case ArmUsage(timer, delay):
            return f"arm {timer.value} {delay:g}"
        case DisarmUsage(timer):
            return f"disarm {timer.value}"
        case RepeatResponse(send) | RepeatAck(send):
            return send.data.decode()
        case RefuseInvite(sequence, status):
            return f"refuse {sequence} with {status}"
        case Acknowledged(sequence) | AckMissing(sequence) | NeedAck(sequence):
            return f"{type(effect).__name__} {sequence}"
    return type(effect).__name__


def named(given: UsageInput) -> str:
    match given:
        case UsageFired(timer):
            return timer.value
        case AckReceived(received):
            return f"AckReceived {received.cseq.number}"
        case HangUp() | ByeReceived():
            return type(given).__name__
    return f"{type(given).__name__} {given.sequence}"


def generated() -> list[str]:
    lines = []
    for label, make in STATES.items():
        lines.append(f"[{label}]")
        without = []
        for given in INPUTS:
            machine = make()
            before = machine.state
            try:
                done = "; ".join(told(effect) for effect in machine.step(given))
            except LocalProtocolError:
                done = "LocalProtocolError"
            if machine.state is not before:
                done = f"{done} > {machine.state.value}".strip()
            if done:
                lines.append(f"{named(given)}: {done}")
            else:
                without.append(named(given))
        lines.append(f"nothing: {', '.join(without)}")
    return lines


def test_table() -> None:
    assert generated() == written(TABLE)


class UsageBench:
    """Drives a usage and keeps its timers: `at` is the time of each thing it did."""

    def __init__(self, driven: InviteUsage, begun: UsageEffects = ()) -> None:
        self.usage = driven
        self.now = 0.0
        self.deadlines: dict[UsageTimer, float] = {}
        self.done: list[tuple[float, UsageEffect]] = []
        self._note(begun)

    def give(self, given: UsageInput) -> None:
        self._note(self.usage.step(given))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.deadlines and min(self.deadlines.values()) <= end:
            timer = min(self.deadlines, key=lambda each: self.deadlines[each])
            self.now = self.deadlines.pop(timer)
            self.give(UsageFired(timer))
        self.now = end

    def when(self, kind: type[UsageEffect]) -> list[float]:
        return [at for at, effect in self.done if isinstance(effect, kind)]

    def _note(self, effects: UsageEffects) -> None:
        for effect in effects:
            self.done.append((self.now, effect))
            match effect:
                case ArmUsage(timer, delay):
                    self.deadlines[timer] = self.now + delay
                case DisarmUsage(timer):
                    self.deadlines.pop(timer, None)


def answered() -> UsageBench:
    bench = UsageBench(usage(InviteArrived(7)))
    bench.give(Answered(7, OK))
    return bench


def test_a_2xx_is_repeated_until_its_ack() -> None:
    bench = answered()
    bench.advance(8.0)
    assert bench.when(RepeatResponse) == [0.5, 1.5, 3.5, 7.5]  # doubles from T1, held at T2
    bench.give(ack(7))
    bench.give(ack(7))
    bench.advance(60.0)
    assert len(bench.when(RepeatResponse)) == 4
    assert bench.when(Acknowledged) == [8.0]
    assert bench.deadlines == {}


def test_a_2xx_that_nobody_acknowledges_is_given_up() -> None:
    bench = answered()
    bench.advance(100.0)
    assert bench.when(RepeatResponse)[-2:] == [27.5, 31.5]
    assert bench.when(AckMissing) == [32.0]
    assert bench.usage.may_bye
    assert bench.deadlines == {}


def test_no_bye_before_the_ack() -> None:
    bench = answered()
    assert not bench.usage.may_bye
    bench.give(HangUp())
    assert bench.when(ByeAllowed) == []
    bench.advance(2.0)
    bench.give(ack(7))
    assert bench.when(ByeAllowed) == [2.0]


def test_no_bye_before_the_ack_unless_its_time_is_over() -> None:
    bench = answered()
    bench.give(HangUp())
    bench.advance(60.0)
    assert bench.when(ByeAllowed) == bench.when(AckMissing) == [32.0]


def test_the_ack_of_an_earlier_invite_is_not_this_ones() -> None:
    bench = answered()
    bench.give(ack(6))
    bench.advance(0.5)
    assert bench.when(RepeatResponse) == [0.5]


def test_the_acknowledged_effect_brings_the_ack_for_it_may_carry_the_answer() -> None:
    received = ack(7)
    assert usage(InviteArrived(7), Answered(7, OK)).step(received)[-1] == Acknowledged(7, received.ack)


def test_a_reinvite_has_its_own_round() -> None:
    bench = answered()
    bench.give(ack(7))
    bench.give(InviteArrived(8))
    bench.give(Answered(8, OK))
    bench.advance(0.5)
    assert bench.when(RepeatResponse) == [0.5]
    bench.give(ack(8))
    assert [effect.sequence for _, effect in bench.done if isinstance(effect, Acknowledged)] == [7, 8]


def test_an_answer_to_another_invite_than_the_pending_one_is_our_own_mistake() -> None:
    for given in (Answered(6, OK), Declined(6)):
        with pytest.raises(LocalProtocolError):
            usage(InviteArrived(7)).step(given)


def test_each_copy_of_their_2xx_gets_our_ack_again() -> None:
    driven = usage(InviteSent(1), AnswerReceived(1), AckSent(1, ACK))
    assert driven.step(AnswerReceived(1)) == (RepeatAck(ACK),)
    driven.step(InviteArrived(5))
    assert driven.step(AnswerReceived(1)) == (RepeatAck(ACK),)
    driven.step(ByeReceived())
    assert driven.step(AnswerReceived(1)) == (RepeatAck(ACK),)


def test_hanging_up_while_our_invite_is_pending_still_acknowledges_its_answer() -> None:
    driven = usage(InviteSent(1), HangUp())
    assert driven.step(AnswerReceived(1)) == (NeedAck(1),)


@pytest.mark.parametrize("label", list(STATES))
def test_a_usage_survives_as_json(label: str) -> None:
    driven = STATES[label]()
    revived = InviteUsage.from_data(json.loads(json.dumps(driven.to_data())), Timers())
    assert revived.to_data() == driven.to_data()
    for each in (ack(7), AnswerReceived(7), HangUp()):
        assert revived.step(each) == driven.step(each)


def test_a_revived_2xx_is_sent_at_once_and_then_as_if_new() -> None:
    driven = usage(InviteArrived(7), Answered(7, OK), UsageFired(UsageTimer.REPEAT), UsageFired(UsageTimer.REPEAT))
    revived = InviteUsage.from_data(driven.to_data(), Timers())
    bench = UsageBench(revived, revived.resume())
    bench.advance(2.0)
    assert bench.when(RepeatResponse) == [0.0, 0.5, 1.5]
    assert usage(InviteArrived(7)).resume() == ()


def test_states_are_what_is_stored() -> None:
    assert [each.value for each in UsageState] == ["idle", "invited", "answered", "inviting", "ended"]
