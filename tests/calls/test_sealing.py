"""Passwords on their way into a call: sealed once, and nothing done where there are none."""

from __future__ import annotations

import json

import pytest

from bridge.calls import snapshot
from bridge.calls.actions import Action, Credentials, Dial, Pause, Ring, Target, from_data, target_to_data, to_data
from bridge.calls.lists import ActionList, Step
from bridge.calls.sealing import sealed_actions, sealed_targets, unreadable
from tests.calls.bench import answered
from tests.calls.outgoing import Calling
from tests.engine.world import Sealing

PASSWORD = "correct horse"
BOB = Target("sip:bob@192.0.2.2", Credentials("us", PASSWORD), {"X-A": ("1",)})
CAROL = Target("sip:carol@192.0.2.3")


def test_each_password_is_sealed_once() -> None:
    seal = Sealing()
    (dial, pause) = sealed_actions([Dial(to=(BOB, CAROL)), Pause()], seal)
    assert isinstance(dial, Dial)
    assert dial.to == (BOB, CAROL), "it is the same action"
    assert dial.to[0].auth is not None
    assert seal.unseal(dial.to[0].auth.sealed) == PASSWORD
    assert pause == Pause()
    sealed_actions([dial], seal)
    sealed_targets(dial.to, seal)
    assert seal.made == 1


@pytest.mark.parametrize("actions", [(), (Ring(), Pause()), (Dial(to=(CAROL,)),)])
def test_what_has_no_password_is_left_as_it_is(actions: tuple[Action, ...]) -> None:
    seal = Sealing()
    assert sealed_actions(actions, seal) is actions
    assert sealed_targets((CAROL,), seal)[0] is CAROL
    assert seal.made == 0


def test_what_is_written_has_only_the_sealed_text() -> None:
    seal = Sealing()
    (dial,) = sealed_actions([Dial(to=(BOB,))], seal)
    written = json.dumps(to_data(dial))
    assert PASSWORD not in written
    assert from_data(json.loads(written), seal) == dial
    assert json.dumps(to_data(from_data(json.loads(written), seal))) == written, "and it stays the same"


def test_nothing_is_written_of_a_password_that_was_not_sealed() -> None:
    with pytest.raises(AssertionError):
        target_to_data(BOB)


def test_what_was_written_in_the_clear_is_read_and_sealed() -> None:
    """By a release before."""
    data = {"action": "dial", "to": [{"uri": BOB.uri, "auth": ["us", PASSWORD], "headers": {"X-A": ["1"]}}]}
    read = from_data(data, Sealing())
    assert read == Dial(to=(BOB,))
    assert PASSWORD not in json.dumps(to_data(read))


def test_a_password_under_another_key_is_none_and_is_kept() -> None:
    (dial,) = sealed_actions([Dial(to=(BOB,))], Sealing())
    written = to_data(dial)
    read = from_data(written, Sealing("another"))
    assert isinstance(read, Dial)
    assert read.to[0].auth == Credentials("us", None)
    assert to_data(read) == written


def test_whose_passwords_cannot_be_read() -> None:
    lost = Target("sip:x@192.0.2.2", Credentials("lost", None, "s"))
    assert unreadable(Calling(lost, CAROL).call) == {"lost"}
    bench = answered()
    steps = [Step(bench.call.new_action_id(), Dial(to=(lost,))), Step(bench.call.new_action_id(), Dial(to=(BOB,)))]
    bench.call.list = ActionList.of("commands", steps)
    assert unreadable(bench.call) == {"lost"}
    bench.call.list.take()
    assert unreadable(bench.call) == {"lost"}
    assert unreadable(answered().call) == set()


def test_a_password_is_shown_by_nothing() -> None:
    (dial,) = sealed_actions([Dial(to=(BOB,))], Sealing())
    assert PASSWORD not in repr(dial)
    assert PASSWORD not in repr(Calling(BOB).effects)
    bench = Calling(sealed_targets((BOB,), Sealing())[0])
    assert PASSWORD.encode() not in snapshot.variable(bench.call)
