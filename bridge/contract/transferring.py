"""Transfers as JSON says them (contract §1, §3): `transfer`, by which the far end is asked to call somebody else in our place;
and what an application replies where a far end asks for one.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from bridge.calls import actions as calls
from bridge.calls import referral
from bridge.contract.bodies import ActionBody, Body
from bridge.contract.dialing import DialTimeout, UriText
from bridge.contract.headers import OneLine
from bridge.contract.models import CallIdText

_ONE_OF_THEM: JsonDict = {
    "anyOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in ("to", "replaces_call_id")]
}


class TransferBody(ActionBody):
    """Ask the far end to call somebody else (REFER), and hang up once it has. Told by `transfer.completed` or `.failed`."""

    model_config = ConfigDict(json_schema_extra=_ONE_OF_THEM)

    to: Annotated[
        UriText | None, Field(description="Whom it shall call. Without one: the far end of `replaces_call_id`.")
    ] = None
    replaces_call_id: Annotated[
        CallIdText | None,
        Field(
            description="An attended transfer: the answered call whose far end it shall be connected with (RFC 3891)."
        ),
    ] = None

    @model_validator(mode="after")
    def _says_whom(self) -> Self:
        if self.to is None and self.replaces_call_id is None:
            raise PydanticCustomError("transfer_target", "should have `to`, or `replaces_call_id`, or both")
        return self

    def to_action(self) -> calls.Transfer:
        return calls.Transfer(to=self.to, replaces_call_id=self.replaces_call_id, client_state=self.client_state)


# What an application replies to `transfer.requested`


class AcceptTransfer(Body):
    """Connect the partner with whom the far end has named; its call ends once the two hear each other."""

    action: Literal["accept"]
    to: Annotated[
        UriText | None, Field(description="Whom to call instead. Without one: as the far end has named it.")
    ] = None
    timeout_s: DialTimeout = 60.0

    def to_decision(self) -> referral.TransferDecision:
        return referral.AcceptTransfer(to=self.to, timeout_s=self.timeout_s)


class RejectTransfer(Body):
    """Refuse it with a final response to the REFER. The call goes on."""

    action: Literal["reject"]
    code: Annotated[int, Field(ge=400, le=699)] = 603
    reason: Annotated[OneLine | None, Field(description="The reason phrase; without one, the RFC's own.")] = None

    def to_decision(self) -> referral.TransferDecision:
        return referral.RejectTransfer(code=self.code, reason=self.reason)


TransferAction: TypeAlias = Annotated[AcceptTransfer | RejectTransfer, Field(discriminator="action")]
TRANSFER_ACTIONS: frozenset[str] = frozenset({"accept", "reject"})


class TransferReply(Body):
    """What an application answers to `transfer.requested`. No actions: `reject` with 603."""

    actions: Annotated[list[TransferAction] | None, Field(max_length=1)] = None
