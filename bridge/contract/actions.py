"""The actions of the contract, §1, that are built: one pydantic model each, and the way to and from `bridge.calls.actions`.

Every action has two forms with the same fields: in a list it names itself (`{"action": "answer", …}`); as
`POST /v1/calls/{id}/answer` the path names it. Unknown fields, foreign types and unsafe headers are refused. Knows
nothing of which action fits which state: that is the call's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from bridge.calls import actions as calls
from bridge.contract.headers import ExtraHeaders, OneLine

CLIENT_STATE_MAX_BYTES = 4096
LIST_MAX = 50
PAUSE_MAX_S = 3600.0
PARK_MAX_S = 86_400.0


def _small(state: str) -> str:
    if len(state.encode()) > CLIENT_STATE_MAX_BYTES:
        raise PydanticCustomError("too_large", "should be at most {limit} bytes", {"limit": CLIENT_STATE_MAX_BYTES})
    return state


ClientState = Annotated[
    str,
    AfterValidator(_small),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": CLIENT_STATE_MAX_BYTES,
            "description": f"Echoed on every event from now on. At most {CLIENT_STATE_MAX_BYTES} bytes of UTF-8.",
        }
    ),
]


class Body(BaseModel):
    """What a request says. Nothing is guessed: a number is a number, and an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ActionBody(Body):
    """What every action has."""

    client_state: ClientState | None = None

    def to_action(self) -> calls.Action:
        """The same as `bridge.calls` says it."""
        raise NotImplementedError


class RingBody(ActionBody):
    """Send 180 Ringing."""

    def to_action(self) -> calls.Ring:
        return calls.Ring(client_state=self.client_state)


class AnswerBody(ActionBody):
    """Answer with our media. Told by `call.answered`."""

    headers: ExtraHeaders | None = None

    def to_action(self) -> calls.Answer:
        return calls.Answer(headers=_tuples(self.headers), client_state=self.client_state)


class RejectBody(ActionBody):
    """Send a final 4xx, 5xx or 6xx response. Told by `call.ended`."""

    code: Annotated[int, Field(ge=400, le=699)] = 480
    reason: Annotated[OneLine | None, Field(description="The reason phrase; without one, the RFC's own.")] = None

    def to_action(self) -> calls.Reject:
        return calls.Reject(code=self.code, reason=self.reason, client_state=self.client_state)


class PauseBody(ActionBody):
    """Wait, then go on with the list. In lists only."""

    seconds: Annotated[float, Field(ge=0, le=PAUSE_MAX_S, allow_inf_nan=False)] = 1.0

    def to_action(self) -> calls.Pause:
        return calls.Pause(seconds=self.seconds, client_state=self.client_state)


class ParkBody(ActionBody):
    """Keep the call as it is until a REST action comes; after `timeout_s` the application's fallback runs."""

    timeout_s: Annotated[float, Field(gt=0, le=PARK_MAX_S, allow_inf_nan=False)] = 60.0

    def to_action(self) -> calls.Park:
        return calls.Park(timeout_s=self.timeout_s, client_state=self.client_state)


class HangupBody(ActionBody):
    """End the call by whatever is right now: a final response, or BYE. Told by `call.ended`."""

    reason: Annotated[OneLine | None, Field(description="Text of a Reason header (RFC 3326).")] = None
    headers: ExtraHeaders | None = None

    def to_action(self) -> calls.Hangup:
        return calls.Hangup(reason=self.reason, headers=_tuples(self.headers), client_state=self.client_state)


class Ring(RingBody):
    """Send 180 Ringing."""

    action: Literal["ring"]


class Answer(AnswerBody):
    """Answer with our media. Told by `call.answered`."""

    action: Literal["answer"]


class Reject(RejectBody):
    """Send a final 4xx, 5xx or 6xx response. Told by `call.ended`."""

    action: Literal["reject"]


class Pause(PauseBody):
    """Wait, then go on with the list."""

    action: Literal["pause"]


class Park(ParkBody):
    """Keep the call as it is until a REST action comes; after `timeout_s` the application's fallback runs."""

    action: Literal["park"]


class Hangup(HangupBody):
    """End the call by whatever is right now: a final response, or BYE. Told by `call.ended`."""

    action: Literal["hangup"]


ListedAction: TypeAlias = Annotated[Ring | Answer | Reject | Pause | Park | Hangup, Field(discriminator="action")]


class ActionList(Body):
    """Actions to run one after the other. Replaces the list that runs."""

    actions: Annotated[list[ListedAction], Field(min_length=1, max_length=LIST_MAX)]


class DecisionReply(Body):
    """What an application answers to a decision webhook. No actions: `park`."""

    actions: Annotated[list[ListedAction] | None, Field(max_length=LIST_MAX)] = None


# The actions that have a path of their own: all but `pause`, which is for lists.
COMMANDS: dict[str, type[ActionBody]] = {
    "ring": RingBody,
    "answer": AnswerBody,
    "reject": RejectBody,
    "park": ParkBody,
    "hangup": HangupBody,
}
NAMES: frozenset[str] = frozenset({*COMMANDS, "pause"})


def to_actions(listed: Iterable[ActionBody]) -> tuple[calls.Action, ...]:
    """A list as `bridge.calls` says it."""
    return tuple([model.to_action() for model in listed])


def as_json(action: calls.Action) -> dict[str, object]:
    """One action as a list of JSON writes it. `to_actions` of what this gives is the action again."""
    given: dict[str, object] = {"action": action.name}
    for field in fields(action):
        value = getattr(action, field.name)
        if isinstance(value, Mapping):
            value = {name: list(values) for name, values in value.items()}
        if value not in (None, {}):
            given[field.name] = value
    return given


def _tuples(headers: Mapping[str, list[str]] | None) -> dict[str, tuple[str, ...]]:
    return {name: tuple(values) for name, values in headers.items()} if headers else {}
