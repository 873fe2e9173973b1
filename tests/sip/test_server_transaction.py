"""The server transactions against figures 7 and 8 of RFC 3261, the first as RFC 6026 redraws it (figure 5)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.errors import LocalProtocolError
from bridge.sip.server_transaction import InviteServerTransaction, NonInviteServerTransaction
from bridge.sip.transaction import (
    Fired,
    Input,
    Received,
    Respond,
    State,
    Terminated,
    TimedOut,
    Timer,
    Timers,
    TransportFailed,
)
from tests.sip.bench import Bench, changes, request, response, table, written

INVITE, ACK, OPTIONS = request("INVITE"), request("ACK"), request("OPTIONS")
RINGING, OK, BUSY = Respond(response(180)), Respond(response(200)), Respond(response(486))


def invite(*given: Input, reliable: bool = False) -> InviteServerTransaction:
    machine = InviteServerTransaction(Timers(), reliable=reliable)
    for each in given:
        machine.step(each)
    return machine


def options(*given: Input, reliable: bool = False) -> NonInviteServerTransaction:
    machine = NonInviteServerTransaction(Timers(), reliable=reliable)
    for each in given:
        machine.step(each)
    return machine


def invite_states(*, reliable: bool) -> dict[str, Callable[[], InviteServerTransaction]]:
    acknowledged = (BUSY, Received(ACK))
    return {
        "proceeding, nothing said": lambda: invite(reliable=reliable),
        "proceeding, 180 said": lambda: invite(RINGING, reliable=reliable),
        "completed": lambda: invite(BUSY, reliable=reliable),
        "confirmed": lambda: invite(*acknowledged, reliable=reliable),
        "accepted": lambda: invite(OK, reliable=reliable),
        "terminated": lambda: invite(OK, Fired(Timer.L), reliable=reliable),
    }


def options_states(*, reliable: bool) -> dict[str, Callable[[], NonInviteServerTransaction]]:
    return {
        "trying": lambda: options(reliable=reliable),
        "proceeding": lambda: options(RINGING, reliable=reliable),
        "completed": lambda: options(OK, reliable=reliable),
        "terminated": lambda: options(OK, Fired(Timer.J), reliable=reliable),
    }


WIRE_AND_TIMERS: list[Input] = [*(Fired(timer) for timer in Timer), TransportFailed()]
INVITE_INPUTS: list[Input] = [RINGING, OK, BUSY, Received(INVITE), Received(ACK), *WIRE_AND_TIMERS]
OPTIONS_INPUTS: list[Input] = [RINGING, OK, BUSY, Received(OPTIONS), *WIRE_AND_TIMERS]

INVITE_TABLE = """
    [proceeding, nothing said]
    respond 180: send 180
    respond 200: send 200; arm L 32 > accepted
    respond 486: send 486; arm G 0.5; arm H 32 > completed
    transport: Failed
    nothing: INVITE, ACK, A, B, D, E, F, G, H, I, J, K, L, M

    [proceeding, 180 said]
    respond 180: send 180
    respond 200: send 200; arm L 32 > accepted
    respond 486: send 486; arm G 0.5; arm H 32 > completed
    INVITE: send 180
    transport: Failed
    nothing: ACK, A, B, D, E, F, G, H, I, J, K, L, M

    [completed]
    respond 180: LocalProtocolError
    respond 200: LocalProtocolError
    respond 486: LocalProtocolError
    INVITE: send 486
    ACK: disarm G; disarm H; arm I 5 > confirmed
    G: send 486; arm G 1
    H: disarm G; TimedOut; Terminated > terminated
    transport: Failed
    nothing: A, B, D, E, F, I, J, K, L, M

    [confirmed]
    respond 180: LocalProtocolError
    respond 200: LocalProtocolError
    respond 486: LocalProtocolError
    I: Terminated > terminated
    nothing: INVITE, ACK, A, B, D, E, F, G, H, J, K, L, M, transport

    [accepted]
    respond 180: LocalProtocolError
    respond 200: send 200
    respond 486: LocalProtocolError
    ACK: pass ACK
    L: Terminated > terminated
    transport: Failed
    nothing: INVITE, A, B, D, E, F, G, H, I, J, K, M

    [terminated]
    respond 180: LocalProtocolError
    respond 200: LocalProtocolError
    respond 486: LocalProtocolError
    nothing: INVITE, ACK, A, B, D, E, F, G, H, I, J, K, L, M, transport
"""

OPTIONS_TABLE = """
    [trying]
    respond 180: send 180 > proceeding
    respond 200: send 200; arm J 32 > completed
    respond 486: send 486; arm J 32 > completed
    nothing: OPTIONS, A, B, D, E, F, G, H, I, J, K, L, M, transport

    [proceeding]
    respond 180: send 180
    respond 200: send 200; arm J 32 > completed
    respond 486: send 486; arm J 32 > completed
    OPTIONS: send 180
    transport: Failed; Terminated > terminated
    nothing: A, B, D, E, F, G, H, I, J, K, L, M

    [completed]
    OPTIONS: send 200
    J: Terminated > terminated
    transport: disarm J; Failed; Terminated > terminated
    nothing: respond 180, respond 200, respond 486, A, B, D, E, F, G, H, I, K, L, M

    [terminated]
    nothing: respond 180, respond 200, respond 486, OPTIONS, A, B, D, E, F, G, H, I, J, K, L, M, transport
"""


def test_invite_table() -> None:
    assert table(invite_states(reliable=False), INVITE_INPUTS) == written(INVITE_TABLE)


def test_invite_table_differs_on_reliable_transports_only_in_the_timers() -> None:
    assert changes(table(invite_states(reliable=True), INVITE_INPUTS), written(INVITE_TABLE)) == [
        "[proceeding, nothing said] respond 486: send 486; arm H 32 > completed",
        "[proceeding, 180 said] respond 486: send 486; arm H 32 > completed",
        "[completed] ACK: disarm G; disarm H; arm I 0 > confirmed",
    ]


def test_non_invite_table() -> None:
    assert table(options_states(reliable=False), OPTIONS_INPUTS) == written(OPTIONS_TABLE)


def test_non_invite_table_differs_on_reliable_transports_only_in_the_timers() -> None:
    assert changes(table(options_states(reliable=True), OPTIONS_INPUTS), written(OPTIONS_TABLE)) == [
        "[trying] respond 200: send 200; arm J 0 > completed",
        "[trying] respond 486: send 486; arm J 0 > completed",
        "[proceeding] respond 200: send 200; arm J 0 > completed",
        "[proceeding] respond 486: send 486; arm J 0 > completed",
    ]


def test_busy_is_repeated_until_acknowledged() -> None:
    bench = Bench(invite())
    bench.give(BUSY)
    bench.advance(8.0)
    assert bench.sent(486) == [0.0, 0.5, 1.5, 3.5, 7.5]  # doubles from T1, held at T2

    bench.give(Received(ACK))
    bench.advance(60.0)
    assert len(bench.sent(486)) == 5
    assert bench.when(Terminated) == [13.0]
    assert not bench.when(TimedOut)


def test_busy_that_nobody_acknowledges_times_out() -> None:
    bench = Bench(invite())
    bench.give(BUSY)
    bench.advance(100.0)
    assert bench.sent(486)[-3:] == [23.5, 27.5, 31.5]
    assert bench.when(TimedOut) == bench.when(Terminated) == [32.0]
    assert bench.deadlines == {}


def test_busy_is_sent_once_where_the_transport_repeats() -> None:
    bench = Bench(invite(reliable=True))
    bench.give(BUSY)
    bench.advance(31.0)
    assert bench.sent(486) == [0.0]


def test_a_2xx_is_the_users_to_repeat_and_its_acks_the_users_to_hear() -> None:
    bench = Bench(invite())
    bench.give(OK)
    bench.advance(1.0)
    assert bench.sent(200) == [0.0]
    bench.give(OK)
    bench.give(Received(ACK))
    bench.give(Received(ACK))
    assert bench.sent(200) == [0.0, 1.0]
    assert bench.passed() == ["ACK", "ACK"]
    bench.advance(60.0)
    assert bench.when(Terminated) == [32.0]


def test_timer_g_is_not_confused_by_a_late_wake_up() -> None:
    machine = invite(BUSY, Received(ACK))
    assert machine.step(Fired(Timer.G)) == ()
    assert machine.state is State.CONFIRMED


def test_a_repeated_request_gets_the_last_response() -> None:
    bench = Bench(options())
    bench.give(Received(OPTIONS))
    assert bench.done == []
    bench.give(OK)
    bench.advance(10.0)
    bench.give(Received(OPTIONS))
    assert bench.sent(200) == [0.0, 10.0]
    bench.advance(60.0)
    assert bench.when(Terminated) == [32.0]


@pytest.mark.parametrize("reliable", [False, True])
@pytest.mark.parametrize("label", list(invite_states(reliable=False)))
def test_invite_survives_as_data(label: str, reliable: bool) -> None:
    machine = invite_states(reliable=reliable)[label]()
    revived = InviteServerTransaction.from_data(machine.to_data(), Timers())
    assert revived.to_data() == machine.to_data()
    alike: list[Input] = [Received(INVITE), Fired(Timer.G), Received(ACK), Fired(Timer.L)]
    assert [revived.step(each) for each in alike] == [machine.step(each) for each in alike]


@pytest.mark.parametrize("label", list(options_states(reliable=False)))
def test_non_invite_survives_as_data(label: str) -> None:
    machine = options_states(reliable=False)[label]()
    revived = NonInviteServerTransaction.from_data(machine.to_data(), Timers())
    assert revived.to_data() == machine.to_data()
    alike: list[Input] = [Received(OPTIONS), BUSY, Received(OPTIONS), Fired(Timer.J)]
    assert [revived.step(each) for each in alike] == [machine.step(each) for each in alike]


def test_what_is_over_keeps_no_message() -> None:
    assert invite(BUSY, Received(ACK)).last == b""
    assert invite(OK).last == b""
    assert options(OK, Fired(Timer.J)).last == b""


def test_a_refusal_after_the_answer_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError, match="cannot send 486 when ACCEPTED"):
        invite(OK).step(BUSY)
