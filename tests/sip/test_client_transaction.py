"""The client transactions against figures 5 and 6 of RFC 3261, the first as RFC 6026 redraws it (figure 4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.sip.client_transaction import (
    InviteClientTransaction,
    NonInviteClientTransaction,
    acknowledge,
    cancel,
)
from bridge.sip.transaction import (
    CancelWanted,
    Failed,
    Fired,
    Input,
    Received,
    SendCancel,
    SendMessage,
    Terminated,
    TimedOut,
    Timer,
    Timers,
    TransportFailed,
)
from tests.sip.bench import Bench, changes, request, response, table, written

INVITE, OPTIONS = request("INVITE"), request("OPTIONS")
RINGING, OK, BUSY = Received(response(180)), Received(response(200)), Received(response(486))


def invite(*given: Input, reliable: bool = False) -> InviteClientTransaction:
    machine = InviteClientTransaction(INVITE, Timers(), reliable=reliable)
    machine.begin()
    for each in given:
        machine.step(each)
    return machine


def options(*given: Input, reliable: bool = False) -> NonInviteClientTransaction:
    machine = NonInviteClientTransaction(OPTIONS, Timers(), reliable=reliable)
    machine.begin()
    for each in given:
        machine.step(each)
    return machine


def taken_up(*given: Input) -> InviteClientTransaction:
    """One that another process has sent."""
    machine = InviteClientTransaction(INVITE, Timers(), reliable=False)
    machine.take_up()
    for each in given:
        machine.step(each)
    return machine


def invite_states(*, reliable: bool) -> dict[str, Callable[[], InviteClientTransaction]]:
    return {
        "calling": lambda: invite(reliable=reliable),
        "calling, cancel wanted": lambda: invite(CancelWanted(), reliable=reliable),
        "proceeding": lambda: invite(RINGING, reliable=reliable),
        "proceeding, canceled": lambda: invite(RINGING, CancelWanted(), reliable=reliable),
        "completed": lambda: invite(BUSY, reliable=reliable),
        "accepted": lambda: invite(OK, reliable=reliable),
        "terminated": lambda: invite(Fired(Timer.B), reliable=reliable),
    }


def options_states(*, reliable: bool) -> dict[str, Callable[[], NonInviteClientTransaction]]:
    return {
        "trying": lambda: options(reliable=reliable),
        "proceeding": lambda: options(RINGING, reliable=reliable),
        "completed": lambda: options(OK, reliable=reliable),
        "terminated": lambda: options(Fired(Timer.F), reliable=reliable),
    }


INPUTS: list[Input] = [RINGING, OK, BUSY, *(Fired(timer) for timer in Timer), TransportFailed(), CancelWanted()]

INVITE_TABLE = """
    [calling]
    180: disarm A; disarm B; pass 180 > proceeding
    200: disarm A; disarm B; pass 200; arm M 32 > accepted
    486: disarm A; disarm B; send ACK; pass 486; arm D 32 > completed
    A: send INVITE; arm A 1
    B: disarm A; TimedOut; Terminated > terminated
    transport: disarm A; disarm B; Failed; Terminated > terminated
    nothing: D, E, F, G, H, I, J, K, L, M, cancel

    [calling, cancel wanted]
    180: disarm A; pass 180; SendCancel; arm B 32 > proceeding
    200: disarm A; disarm B; pass 200; arm M 32 > accepted
    486: disarm A; disarm B; send ACK; pass 486; arm D 32 > completed
    A: send INVITE; arm A 1
    B: disarm A; TimedOut; Terminated > terminated
    transport: disarm A; disarm B; Failed; Terminated > terminated
    nothing: D, E, F, G, H, I, J, K, L, M, cancel

    [proceeding]
    180: pass 180
    200: pass 200; arm M 32 > accepted
    486: send ACK; pass 486; arm D 32 > completed
    B: TimedOut; Terminated > terminated
    cancel: SendCancel; arm B 32
    nothing: A, D, E, F, G, H, I, J, K, L, M, transport

    [proceeding, canceled]
    180: pass 180
    200: disarm B; pass 200; arm M 32 > accepted
    486: disarm B; send ACK; pass 486; arm D 32 > completed
    B: TimedOut; Terminated > terminated
    nothing: A, D, E, F, G, H, I, J, K, L, M, transport, cancel

    [completed]
    486: send ACK
    D: Terminated > terminated
    transport: disarm D; Failed; Terminated > terminated
    nothing: 180, 200, A, B, E, F, G, H, I, J, K, L, M, cancel

    [accepted]
    200: pass 200
    M: Terminated > terminated
    nothing: 180, 486, A, B, D, E, F, G, H, I, J, K, L, transport, cancel

    [terminated]
    nothing: 180, 200, 486, A, B, D, E, F, G, H, I, J, K, L, M, transport, cancel
"""

OPTIONS_TABLE = """
    [trying]
    180: pass 180 > proceeding
    200: disarm E; disarm F; pass 200; arm K 5 > completed
    486: disarm E; disarm F; pass 486; arm K 5 > completed
    E: send OPTIONS; arm E 1
    F: disarm E; TimedOut; Terminated > terminated
    transport: disarm E; disarm F; Failed; Terminated > terminated
    nothing: A, B, D, G, H, I, J, K, L, M, cancel

    [proceeding]
    180: pass 180
    200: disarm E; disarm F; pass 200; arm K 5 > completed
    486: disarm E; disarm F; pass 486; arm K 5 > completed
    E: send OPTIONS; arm E 4
    F: disarm E; TimedOut; Terminated > terminated
    transport: disarm E; disarm F; Failed; Terminated > terminated
    nothing: A, B, D, G, H, I, J, K, L, M, cancel

    [completed]
    K: Terminated > terminated
    nothing: 180, 200, 486, A, B, D, E, F, G, H, I, J, L, M, transport, cancel

    [terminated]
    nothing: 180, 200, 486, A, B, D, E, F, G, H, I, J, K, L, M, transport, cancel
"""


def test_invite_table() -> None:
    assert table(invite_states(reliable=False), INPUTS) == written(INVITE_TABLE)


def test_invite_table_differs_on_reliable_transports_only_in_the_timers() -> None:
    assert changes(table(invite_states(reliable=True), INPUTS), written(INVITE_TABLE)) == [
        "[calling] 486: disarm A; disarm B; send ACK; pass 486; arm D 0 > completed",
        "[calling, cancel wanted] 486: disarm A; disarm B; send ACK; pass 486; arm D 0 > completed",
        "[proceeding] 486: send ACK; pass 486; arm D 0 > completed",
        "[proceeding, canceled] 486: disarm B; send ACK; pass 486; arm D 0 > completed",
    ]


def test_an_invite_that_is_taken_up_is_proceeding() -> None:
    states = {"proceeding": taken_up, "proceeding, canceled": lambda: taken_up(CancelWanted())}
    expected = written(INVITE_TABLE)
    assert table(states, INPUTS) == expected[expected.index("[proceeding]") : expected.index("[completed]")]


def test_non_invite_table() -> None:
    assert table(options_states(reliable=False), INPUTS) == written(OPTIONS_TABLE)


def test_non_invite_table_differs_on_reliable_transports_only_in_the_timers() -> None:
    assert changes(table(options_states(reliable=True), INPUTS), written(OPTIONS_TABLE)) == [
        "[trying] 200: disarm E; disarm F; pass 200; arm K 0 > completed",
        "[trying] 486: disarm E; disarm F; pass 486; arm K 0 > completed",
        "[proceeding] 200: disarm E; disarm F; pass 200; arm K 0 > completed",
        "[proceeding] 486: disarm E; disarm F; pass 486; arm K 0 > completed",
    ]


def begun(*, reliable: bool = False) -> Bench:
    machine = InviteClientTransaction(INVITE, Timers(), reliable=reliable)
    return Bench(machine, machine.begin())


def options_begun(*, reliable: bool = False) -> Bench:
    machine = NonInviteClientTransaction(OPTIONS, Timers(), reliable=reliable)
    return Bench(machine, machine.begin())


def test_an_invite_into_silence_is_repeated_at_doubling_intervals_then_given_up() -> None:
    bench = begun()
    bench.advance(100.0)
    assert bench.sent("INVITE") == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]  # Timer A knows no T2
    assert bench.when(TimedOut) == bench.when(Terminated) == [32.0]
    assert bench.deadlines == {}


def test_a_request_into_silence_is_repeated_up_to_t2_then_given_up() -> None:
    bench = options_begun()
    bench.advance(100.0)
    assert bench.sent("OPTIONS") == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert bench.when(TimedOut) == bench.when(Terminated) == [32.0]
    assert bench.deadlines == {}


def test_reliable_transports_are_sent_to_once() -> None:
    for bench, method in ((begun(reliable=True), "INVITE"), (options_begun(reliable=True), "OPTIONS")):
        bench.advance(100.0)
        assert bench.sent(method) == [0.0]
        assert bench.when(TimedOut) == [32.0]


def test_ringing_ends_the_repetition_and_the_patience_is_the_users() -> None:
    bench = begun()
    bench.advance(1.0)
    bench.give(RINGING)
    bench.advance(300.0)
    assert bench.sent("INVITE") == [0.0, 0.5]
    assert not bench.when(TimedOut)


def test_each_copy_of_a_refusal_gets_its_ack_and_the_user_hears_one() -> None:
    bench = begun()
    bench.give(BUSY)
    bench.advance(0.5)
    bench.give(BUSY)
    assert bench.sent("ACK") == [0.0, 0.5]
    assert bench.passed() == ["486"]
    bench.advance(60.0)
    assert bench.when(Terminated) == [32.0]


def test_each_2xx_is_passed_for_it_may_be_a_forks() -> None:
    bench = begun()
    bench.give(OK)
    bench.give(Received(response(200, to_tag="another")))
    bench.advance(40.0)
    assert bench.passed() == ["200", "200"]
    assert bench.sent("ACK") == []  # the user's
    assert bench.when(Terminated) == [32.0]


def test_a_cancel_waits_for_a_provisional_response() -> None:
    bench = begun()
    bench.give(CancelWanted())
    bench.advance(1.0)
    assert not bench.when(SendCancel)
    bench.give(RINGING)
    bench.give(CancelWanted())
    assert bench.when(SendCancel) == [1.0]


def test_a_canceled_invite_that_is_never_answered_is_given_up() -> None:
    bench = begun()
    bench.give(RINGING)
    bench.advance(10.0)
    bench.give(CancelWanted())
    bench.advance(60.0)
    assert bench.when(TimedOut) == [42.0]


def test_a_cancel_after_the_answer_is_too_late() -> None:
    bench = begun()
    bench.give(OK)
    bench.give(CancelWanted())
    assert not bench.when(SendCancel)


def test_a_broken_connection_fails_the_transaction_at_once() -> None:
    bench = options_begun(reliable=True)
    bench.give(TransportFailed())
    assert bench.when(Failed) == bench.when(Terminated) == [0.0]
    assert bench.deadlines == {}


def test_the_ack_of_a_refusal_belongs_to_the_invites_transaction() -> None:
    sent = request("INVITE")
    sent.headers.add("Route", "<sip:proxy.example;lr>")
    refusal = response(486, sent)
    ack = acknowledge(sent, refusal)
    assert (ack.method, ack.uri) == ("ACK", sent.uri)
    assert ack.via == sent.via
    assert ack.headers.get("To") == refusal.headers.get("To")
    assert ack.headers.get("From") == sent.headers.get("From")
    assert (ack.call_id, str(ack.cseq)) == (sent.call_id, "314159 ACK")
    assert ack.headers.lines("Route") == ["<sip:proxy.example;lr>"]


def test_a_cancel_is_the_invites_twin() -> None:
    sent = request("INVITE")
    sent.headers.add("Route", "<sip:proxy.example;lr>")
    made = cancel(sent)
    assert (made.method, made.uri, str(made.cseq)) == ("CANCEL", sent.uri, "314159 CANCEL")
    assert made.via == sent.via
    for name in ("From", "To", "Call-ID", "Route"):
        assert made.headers.lines(name) == sent.headers.lines(name)


@pytest.mark.parametrize("label", list(invite_states(reliable=False)))
def test_invite_survives_as_data(label: str) -> None:
    machine = invite_states(reliable=False)[label]()
    revived = InviteClientTransaction.from_data(machine.to_data(), Timers())
    assert revived.to_data() == machine.to_data()
    for each in (Fired(Timer.A), RINGING, CancelWanted(), BUSY, BUSY, Fired(Timer.D)):
        assert revived.step(each) == machine.step(each)


@pytest.mark.parametrize("label", list(options_states(reliable=False)))
def test_non_invite_survives_as_data(label: str) -> None:
    machine = options_states(reliable=False)[label]()
    revived = NonInviteClientTransaction.from_data(machine.to_data(), Timers())
    assert revived.to_data() == machine.to_data()
    for each in (Fired(Timer.E), RINGING, Fired(Timer.E), OK, Fired(Timer.K)):
        assert revived.step(each) == machine.step(each)


def test_what_is_answered_keeps_no_request() -> None:
    assert invite(OK).request is None
    assert invite(OK).repeated == b""
    assert invite(BUSY).request is None
    assert options(OK).repeated == b""


def test_the_first_effect_is_the_request_itself() -> None:
    machine = NonInviteClientTransaction(OPTIONS, Timers(), reliable=False)
    assert machine.begin()[0] == SendMessage(OPTIONS.encode())
