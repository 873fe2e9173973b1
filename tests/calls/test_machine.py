"""Which action fits which state, and that nothing a call can meet in any state is too much for it."""

from __future__ import annotations

from typing import get_args

import pytest

from bridge.calls.actions import Action, Answer, Hangup, Park, Pause, Reject, Ring
from bridge.calls.call import Call, Phase
from bridge.calls.effects import (
    Accept,
    ActionsAccepted,
    ActionsRefused,
    ArmTimer,
    CallTimer,
    DisarmTimer,
    Emit,
    Finished,
    OpenMedia,
    Respond,
    SendRequest,
    SetMedia,
)
from bridge.calls.events import ActionCanceled, ActionFailed, CallEnded
from bridge.calls.facts import Quality
from bridge.calls.inputs import (
    AcceptSent,
    Acknowledged,
    ByeReceived,
    CallInput,
    CancelReceived,
    Commanded,
    Decided,
    Drained,
    Elapsed,
    EventsExhausted,
    MediaClosed,
    MediaGone,
    MediaOpened,
    MediaRefused,
    MediaSilent,
    ReInvited,
    ReplyUnusable,
    StoreTooLate,
    Unacknowledged,
    Undecided,
)
from bridge.sip.transaction import server_key
from tests.calls.bench import STATES, TAG, answered, message, parked
from tests.engine.world import OFFER, UNUSABLE, request

ACTIONS: list[Action] = [Ring(), Answer(), Reject(), Pause(), Park(), Hangup()]
REINVITE = message(request("INVITE", sequence=7, sdp=OFFER, to_tag=TAG))
INPUTS: list[CallInput] = [
    Decided(()),
    Decided((Answer(), Hangup())),
    Undecided("no_reply", "nothing came"),
    ReplyUnusable("nonsense", "actions"),
    *(Commanded((action,), listed=False) for action in ACTIONS),
    Commanded((Ring(), Pause(), Answer(), Reject()), listed=True),
    AcceptSent(),
    Acknowledged(1, message(request("ACK", sdp=OFFER, to_tag=TAG))),
    Acknowledged(2, message(request("ACK", sequence=2, sdp=UNUSABLE, to_tag=TAG))),
    Unacknowledged(),
    ByeReceived(None),
    CancelReceived(26),
    ReInvited(server_key(REINVITE), REINVITE),
    MediaOpened("192.0.2.10", 20000),
    MediaRefused(),
    MediaClosed(Quality()),
    MediaClosed(None),
    MediaSilent(),
    MediaGone(),
    StoreTooLate(),
    EventsExhausted(),
    Drained(),
    *(Elapsed(timer) for timer in CallTimer),
]


@pytest.mark.parametrize("given", INPUTS, ids=lambda given: repr(given)[:40])
@pytest.mark.parametrize("state", STATES)
def test_whatever_comes_in_whatever_state(state: str, given: CallInput) -> None:
    """Whatever follows, the call ends exactly once, and says nothing more after that."""
    bench = STATES[state]()
    bench.give(given)
    bench.give(given)
    if not bench.call.is_over:
        bench.give(MediaGone())
    if not bench.call.is_over:  # it may have to wait for an ACK
        bench.give(Unacknowledged())
    bench.give(MediaClosed(None))
    assert bench.call.phase is Phase.ENDED
    assert len(bench.all(Finished)) == 1
    assert sum(isinstance(event, CallEnded) for event in bench.events) == 1
    after = bench.effects[bench.effects.index(bench.all(Finished)[0]) + 1 :]
    assert [effect for effect in after if isinstance(effect, Emit | OpenMedia | SetMedia | SendRequest | Accept)] == []


def test_every_input_is_among_them() -> None:
    assert {type(given) for given in INPUTS} == set(get_args(CallInput))


BEFORE_ANSWER = {"unanswered", "parked", "listed", "falling_back"}
OVER = {"ending", "ended", "refused"}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
@pytest.mark.parametrize("state", STATES)
def test_which_command_fits_which_state(state: str, action: Action) -> None:
    bench = STATES[state]()
    effects = bench.command(action)
    refused = [effect.code for effect in effects if isinstance(effect, ActionsRefused)]
    if state in OVER:
        assert refused == ["ended"]
    elif isinstance(action, Ring | Answer | Reject) and state not in BEFORE_ANSWER:
        assert refused == ["wrong_state"]
    else:
        assert refused == []
        assert sum(isinstance(effect, ActionsAccepted) for effect in effects) == 1


@pytest.mark.parametrize("state", ["answering", "accepted", "sent", "answered", "held"])
def test_a_refused_command_changes_nothing(state: str) -> None:
    bench, twin = STATES[state](), STATES[state]()
    assert [type(effect) for effect in bench.command(Reject())] == [ActionsRefused]
    assert facts(bench.call) == facts(twin.call)


def facts(call: Call) -> tuple[object, ...]:
    return call.phase, call.list, call.actions_made, call.wait_until, call.cause, call.sequence


def test_actions_are_named_after_their_call_and_counted() -> None:
    bench = parked()
    bench.command(Ring())
    bench.command(Pause(), Ring(), listed=True)
    names = [name for effect in bench.all(ActionsAccepted) for name in effect.action_ids]
    assert names == [f"act_{'a' * 24}_{number}" for number in (1, 2, 3)]


def test_a_list_tells_which_of_its_actions_does_not_fit() -> None:
    bench = answered()
    bench.command(Pause(seconds=0), Ring(), Hangup(), listed=True)
    bench.give(Elapsed(CallTimer.PAUSE))
    failed, canceled, *_ = [event for event in bench.events if event.type.startswith("action.")]
    assert isinstance(failed, ActionFailed)
    assert (failed.action, failed.code) == ("ring", "wrong_state")
    assert "this one is answered" in failed.detail
    assert isinstance(canceled, ActionCanceled)
    assert canceled.action == "hangup"


def test_timers_of_a_list_that_is_replaced_do_not_fire_into_the_next() -> None:
    bench = parked()
    effects = bench.command(Pause(seconds=5), listed=True)
    disarmed = {effect.timer for effect in effects if isinstance(effect, DisarmTimer)}
    assert {CallTimer.PARK, CallTimer.PARK_RING, CallTimer.PAUSE} <= disarmed


def test_a_parked_call_rings_again_each_minute() -> None:
    bench = parked()
    effects = bench.give(Elapsed(CallTimer.PARK_RING))
    assert [effect.response.status for effect in effects if isinstance(effect, Respond)] == [180]
    assert ArmTimer(CallTimer.PARK_RING, 60.0) in effects


def test_a_parked_call_that_is_answered_does_not_ring() -> None:
    bench = answered()
    effects = bench.command(Park(timeout_s=30))
    assert [effect for effect in effects if isinstance(effect, Respond)] == []
    assert ArmTimer(CallTimer.PARK, 30.0) in effects


def test_the_state_that_is_shown() -> None:
    assert {name: make().call.state for name, make in STATES.items()} == {
        "unanswered": "initiated",
        "parked": "ringing",
        "listed": "ringing",
        "falling_back": "ringing",
        "answering": "initiated",
        "accepted": "initiated",
        "delayed": "initiated",
        "sent": "initiated",
        "hanging_up": "initiated",
        "answered": "answered",
        "held": "answered",
        "moved": "answered",
        "ending": "answered",
        "ended": "ended",
        "refused": "ended",
    }
