"""The actions of the contract, §1, that are built: one pydantic model each, and the way to `bridge.calls.actions`.

Every action has two forms with the same fields: in a list it names itself (`{"action": "answer", …}`); as
`POST /v1/calls/{id}/answer` the path names it. Unknown fields, foreign types and unsafe headers are refused. Knows
nothing of which action fits which state: that is the call's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from bridge.calls import actions as calls
from bridge.contract.bodies import ActionBody, Body
from bridge.contract.dialing import DialBody
from bridge.contract.headers import ExtraHeaders, OneLine, tuples_of
from bridge.contract.models import CallIdText
from bridge.contract.proxying import ProxyBody
from bridge.contract.redirecting import RedirectBody
from bridge.contract.transferring import TransferBody

LIST_MAX = 50
PAUSE_MAX_S = 3600.0
PARK_MAX_S = 86_400.0


class RingBody(ActionBody):
    """Send 180 Ringing."""

    def to_action(self) -> calls.Ring:
        return calls.Ring(client_state=self.client_state)


class AnswerBody(ActionBody):
    """Answer with our media. Told by `call.answered`."""

    headers: ExtraHeaders | None = None

    def to_action(self) -> calls.Answer:
        return calls.Answer(headers=tuples_of(self.headers), client_state=self.client_state)


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
        return calls.Hangup(reason=self.reason, headers=tuples_of(self.headers), client_state=self.client_state)


class JoinBody(ActionBody):
    """Let this call and another one hear each other, wherever they live. Told by `call.joined`."""

    call_id: Annotated[CallIdText, Field(description="The other call's `id`.")]
    end_with_peer: Annotated[bool, Field(description="When one of the two ends, so does the other.")] = False

    def to_action(self) -> calls.Join:
        return calls.Join(call_id=self.call_id, end_with_peer=self.end_with_peer, client_state=self.client_state)


class LeaveBody(ActionBody):
    """Back to a conversation of its own. Told by `call.left`."""

    def to_action(self) -> calls.Leave:
        return calls.Leave(client_state=self.client_state)


class HoldBody(ActionBody):
    """Put the far end on hold. Told by `action.completed`."""

    def to_action(self) -> calls.Hold:
        return calls.Hold(client_state=self.client_state)


class UnholdBody(ActionBody):
    """Take the far end off hold. Told by `action.completed`."""

    def to_action(self) -> calls.Unhold:
        return calls.Unhold(client_state=self.client_state)


class MuteBody(ActionBody):
    """Let nobody hear this call; its far end is not told. Told by `action.completed`."""

    def to_action(self) -> calls.Mute:
        return calls.Mute(client_state=self.client_state)


class UnmuteBody(ActionBody):
    """Let this call be heard again. Told by `action.completed`."""

    def to_action(self) -> calls.Unmute:
        return calls.Unmute(client_state=self.client_state)


class Ring(RingBody):
    """Send 180 Ringing."""

    action: Literal["ring"]


class Answer(AnswerBody):
    """Answer with our media. Told by `call.answered`."""

    action: Literal["answer"]


class Reject(RejectBody):
    """Send a final 4xx, 5xx or 6xx response. Told by `call.ended`."""

    action: Literal["reject"]


class Redirect(RedirectBody):
    """Send the caller elsewhere by a 3xx response. Told by `call.redirected`."""

    action: Literal["redirect"]


class Proxy(ProxyBody):
    """Pass the call on as a proxy, and stay out of it. Told by `call.proxied`."""

    action: Literal["proxy"]


class Pause(PauseBody):
    """Wait, then go on with the list."""

    action: Literal["pause"]


class Park(ParkBody):
    """Keep the call as it is until a REST action comes; after `timeout_s` the application's fallback runs."""

    action: Literal["park"]


class Hangup(HangupBody):
    """End the call by whatever is right now: a final response, or BYE. Told by `call.ended`."""

    action: Literal["hangup"]


class Dial(DialBody):
    """Seek a party and join it to this call. Told by `call.joined`, or by the events of the new call."""

    action: Literal["dial"]


class Join(JoinBody):
    """Let this call and another one hear each other, wherever they live. Told by `call.joined`."""

    action: Literal["join"]


class Leave(LeaveBody):
    """Back to a conversation of its own. Told by `call.left`."""

    action: Literal["leave"]


class Hold(HoldBody):
    """Put the far end on hold. Told by `action.completed`."""

    action: Literal["hold"]


class Unhold(UnholdBody):
    """Take the far end off hold. Told by `action.completed`."""

    action: Literal["unhold"]


class Mute(MuteBody):
    """Let nobody hear this call; its far end is not told. Told by `action.completed`."""

    action: Literal["mute"]


class Unmute(UnmuteBody):
    """Let this call be heard again. Told by `action.completed`."""

    action: Literal["unmute"]


class Transfer(TransferBody):
    """Ask the far end to call somebody else (REFER), and hang up once it has. Told by `transfer.completed` or `.failed`."""

    action: Literal["transfer"]


ListedAction: TypeAlias = Annotated[
    Ring
    | Answer
    | Reject
    | Redirect
    | Proxy
    | Pause
    | Park
    | Hangup
    | Dial
    | Join
    | Leave
    | Hold
    | Unhold
    | Mute
    | Unmute
    | Transfer,
    Field(discriminator="action"),
]


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
    "redirect": RedirectBody,
    "proxy": ProxyBody,
    "park": ParkBody,
    "hangup": HangupBody,
    "dial": DialBody,
    "join": JoinBody,
    "leave": LeaveBody,
    "hold": HoldBody,
    "unhold": UnholdBody,
    "mute": MuteBody,
    "unmute": UnmuteBody,
    "transfer": TransferBody,
}
NAMES: frozenset[str] = frozenset({*COMMANDS, "pause"})


def to_actions(listed: Iterable[ActionBody]) -> tuple[calls.Action, ...]:
    """A list as `bridge.calls` says it."""
    return tuple([model.to_action() for model in listed])
