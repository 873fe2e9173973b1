"""What an application may ask of a call. One vocabulary for three entrances: the reply to a decision webhook, REST, and
the actions of an originated call.

Plain values: `contract` reads them from JSON and checks their fields, `lists` runs them, `call` carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """Send 180 Ringing. Done when sent; ends in `action.completed`."""

    name: ClassVar[str] = "ring"
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Send 200 with our SDP. Done when its ACK came; told by `call.answered`."""

    name: ClassVar[str] = "answer"
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # extra headers of the 200
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """Send a final 4xx, 5xx or 6xx response. Done when the call has ended; told by `call.ended`."""

    name: ClassVar[str] = "reject"
    code: int = 480
    reason: str | None = None  # the reason phrase; None: the RFC's own
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Wait, then go on with the list. In lists only."""

    name: ClassVar[str] = "pause"
    seconds: float = 1.0
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """Keep the call as it is until a REST action comes. After `timeout_s` seconds the fallback plan runs."""

    name: ClassVar[str] = "park"
    timeout_s: float = 60.0
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hangup:
    """End the call by whatever is right now: a final response or BYE. Told by `call.ended`."""

    name: ClassVar[str] = "hangup"
    reason: str | None = None  # text of a Reason header (RFC 3326)
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    client_state: str | None = None


Action: TypeAlias = Ring | Answer | Reject | Pause | Park | Hangup

_BY_NAME: dict[str, type[Action]] = {kind.name: kind for kind in (Ring, Answer, Reject, Pause, Park, Hangup)}


def to_data(action: Action) -> dict[str, Any]:
    """Plain data for a snapshot: the action's name and the fields that are not at their default."""
    data: dict[str, Any] = {"action": action.name}
    for each in fields(action):
        value = getattr(action, each.name)
        if each.name == "headers":
            if value:
                data["headers"] = {name: list(values) for name, values in value.items()}
        elif value != each.default:
            data[each.name] = value
    return data


def from_data(data: Mapping[str, Any]) -> Action:
    """The action that `to_data` wrote. Fields a newer release has added are left out."""
    kind = _BY_NAME[data["action"]]
    known = {each.name: data[each.name] for each in fields(kind) if each.name in data}
    if "headers" in known:
        known["headers"] = {name: tuple(values) for name, values in known["headers"].items()}
    return kind(**known)
