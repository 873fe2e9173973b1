"""`transfer` as JSON says it (contract §1): the far end is asked to call somebody else in our place."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from bridge.calls import actions as calls
from bridge.contract.bodies import ActionBody
from bridge.contract.dialing import UriText
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
