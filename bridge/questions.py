"""A call that REST asks for, as one node asks another to make it: the question and its answer, as JSON.

Passwords leave sealed, because links are proven and not encrypted. Whoever reads refuses what it does not understand; a
newer release may ask for more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bridge.ambient import Seal
from bridge.calls.actions import from_data, target_from_data, target_to_data, to_data
from bridge.calls.facts import CallId, ConversationId
from bridge.calls.sealing import sealed_actions, sealed_targets
from bridge.engine.commit import Claim
from bridge.engine.effects import Originated, OriginateRefused
from bridge.engine.inputs import Originate

_PLAIN: Final = ("application", "from_", "timeout_s", "max_duration_s", "fork", "on_redirect", "client_state")
_REFUSALS: Final = frozenset(
    {"no_such_application", "overload", "draining", "store_away", "not_found", "merged", "key_reused"}
)


def originate_to_data(wanted: Originate, seal: Seal) -> dict[str, Any]:
    """The question."""
    return {
        "originate": wanted.call,
        **{name: getattr(wanted, name) for name in _PLAIN},
        "to": [target_to_data(target) for target in sealed_targets(wanted.to, seal)],
        "tags": list(wanted.tags),
        "conversation": wanted.conversation,
        "actions": [to_data(action) for action in sealed_actions(wanted.actions, seal)],
        "claim": None if wanted.claim is None else [wanted.claim.key, wanted.claim.fingerprint],
    }


def originate_from_data(data: Mapping[str, Any], request: int, seal: Seal) -> Originate:
    """What `originate_to_data` wrote. Raises LookupError, TypeError, ValueError for what is no such question."""
    claim = data["claim"]
    return Originate(
        request=request,
        call=CallId(str(data["originate"])),
        **{name: data[name] for name in _PLAIN},
        to=tuple([target_from_data(each, seal) for each in data["to"]]),
        tags=tuple([str(each) for each in data["tags"]]),
        conversation=ConversationId(str(data["conversation"])),
        actions=tuple([from_data(each, seal) for each in data["actions"]]),
        claim=None if claim is None else Claim(str(claim[0]), str(claim[1])),
    )


def originated_to_data(said: Originated | OriginateRefused) -> dict[str, Any]:
    """The answer. What an Idempotency-Key stands for is in the store, for whoever asks."""
    if isinstance(said, Originated):
        return {"originated": said.call, "body": said.body.decode()}
    return {"refused": [said.code, said.detail]}


def originated_from_data(said: Mapping[str, Any], request: int) -> Originated | OriginateRefused:
    """What `originated_to_data` wrote. Raises LookupError, TypeError, ValueError for what tells us nothing."""
    if "originated" in said:
        return Originated(request, CallId(str(said["originated"])), str(said["body"]).encode())
    code, detail = said["refused"]
    if code not in _REFUSALS:
        raise ValueError(f"{code} is no refusal")
    return OriginateRefused(request, code, str(detail))
