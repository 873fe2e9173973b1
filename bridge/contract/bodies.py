"""What every request body has in common: nothing is guessed, nothing unknown is taken, and a secret stays one.

Knows no action and no resource: those build on it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, SerializationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from bridge.calls import actions as calls

CLIENT_STATE_MAX_BYTES = 4096


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


def write_secret(secret: SecretStr, info: SerializationInfo) -> str:
    """Masked, unless whoever writes it says `context={"reveal": True}`: one process hands it to the next."""
    revealed = isinstance(info.context, dict) and info.context.get("reveal") is True
    return secret.get_secret_value() if revealed else str(secret)
