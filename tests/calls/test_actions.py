"""Actions as plain data, for snapshots."""

from __future__ import annotations

import json

import pytest

from bridge.calls.actions import Action, Answer, Hangup, Park, Pause, Proxy, Redirect, Reject, Ring, from_data, to_data
from bridge.calls.facts import Contact
from tests.engine.world import Sealing

ALL: list[Action] = [
    Ring(),
    Ring(client_state="x"),
    Answer(),
    Answer(headers={"X-A": ("1", "2")}, client_state=""),
    Reject(),
    Reject(code=603, reason="No"),
    Redirect(contacts=(Contact("sip:bob@192.0.2.2"), Contact("sip:bob@192.0.2.3;transport=tcp", 0.5))),
    Proxy(),
    Proxy(targets=(Contact("sip:bob@192.0.2.2", 0.5),), fork="serial", record_route=True, timeout_s=5.0),
    Redirect(contacts=(), code=380, reason="Ask the desk", headers={"X-A": ("1",)}, client_state="x"),
    Pause(seconds=0.5),
    Park(timeout_s=3.0),
    Hangup(),
    Hangup(reason='"so"', headers={"X-B": ("ä",)}),
]


@pytest.mark.parametrize("action", ALL, ids=repr)
def test_an_action_survives_as_json(action: Action) -> None:
    assert from_data(json.loads(json.dumps(to_data(action))), Sealing()) == action


def test_what_is_at_its_default_is_left_out() -> None:
    assert to_data(Reject()) == {"action": "reject"}
    assert to_data(Answer()) == {"action": "answer"}


def test_fields_that_a_newer_release_has_added_are_ignored() -> None:
    assert from_data({"action": "park", "timeout_s": 5.0, "music": "jazz"}, Sealing()) == Park(timeout_s=5.0)


def test_an_action_nobody_knows_is_an_error() -> None:
    with pytest.raises(KeyError):
        from_data({"action": "dance"}, Sealing())
