"""Passwords of targets, on their way into a call: each is sealed once, and what is written of the call has only that.

A list without a password is the same list afterwards. Refuses to know how anything is sealed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bridge.ambient import Seal
from bridge.calls.actions import Action, Credentials, Dial, Target
from bridge.calls.call import Call


def sealed_actions(actions: Sequence[Action], seal: Seal) -> Sequence[Action]:
    """These actions, ready to be written."""
    if not any(isinstance(action, Dial) and _is_open(action.to) for action in actions):
        return actions
    return [
        replace(action, to=sealed_targets(action.to, seal)) if isinstance(action, Dial) else action
        for action in actions
    ]


def sealed_targets(targets: tuple[Target, ...], seal: Seal) -> tuple[Target, ...]:
    """These targets, ready to be written."""
    return tuple([_sealed(target, seal) for target in targets]) if _is_open(targets) else targets


def unreadable(call: Call) -> set[str]:
    """The usernames in this call whose passwords were sealed with another key."""
    return {each.username for each in _credentials(call) if each.password is None}


def _is_open(targets: Sequence[Target]) -> bool:
    return any(target.auth is not None and not target.auth.sealed for target in targets)


def _sealed(target: Target, seal: Seal) -> Target:
    auth = target.auth
    if auth is None or auth.password is None or auth.sealed:
        return target
    return replace(target, auth=replace(auth, sealed=seal.seal(auth.password)))


def _credentials(call: Call) -> Iterator[Credentials]:
    targets = [] if call.search is None else [attempt.target for attempt in call.search.attempts]
    if call.list is not None:
        steps = [*call.list.left] if call.list.current is None else [call.list.current, *call.list.left]
        for step in steps:
            targets += step.action.to if isinstance(step.action, Dial) else ()
    return (target.auth for target in targets if target.auth is not None)
