"""What an application answered to a decision webhook, read into actions (contract §3, "Decision").

A hot path: one for every call. What is not of the documented shape is a value that says which field is wrong and what
was received; nothing that an application can answer raises. Knows nothing of HTTP beyond the body and its type.
"""

from __future__ import annotations

from typing import Final

from pydantic import TypeAdapter, ValidationError

from bridge.calls.actions import Action, Park
from bridge.calls.referral import TransferDecision
from bridge.contract.actions import NAMES, DecisionReply, to_actions
from bridge.contract.refusals import quote, refusals_of
from bridge.contract.registrations import REGISTRATION_ACTIONS, RegistrationReply
from bridge.contract.transferring import TRANSFER_ACTIONS, TransferReply
from bridge.engine.inputs import InvalidReply
from bridge.engine.registrations import RegistrationDecision

PARKED: Final[tuple[Action, ...]] = (Park(),)

_REPLY: Final = TypeAdapter(DecisionReply).validator  # the adapter itself would double the time
_TRANSFER_REPLY: Final = TypeAdapter(TransferReply).validator
_REGISTRATION_REPLY: Final = TypeAdapter(RegistrationReply).validator


def read_reply(body: bytes, content_type: str | None) -> tuple[Action, ...] | InvalidReply:
    """The actions a 2xx answer asks for. Nothing in it means `park`.

    `content_type` is not judged, because many a small server sends JSON as text: it helps to say what came instead.
    """
    if not body or body.isspace():
        return PARKED
    try:
        reply = _REPLY.validate_json(body)
    except ValidationError as error:
        return _invalid(body, content_type, error, NAMES)
    return to_actions(reply.actions) if reply.actions else PARKED


def read_registration_reply(body: bytes, content_type: str | None) -> tuple[RegistrationDecision, ...] | InvalidReply:
    """What a 2xx answer to `registration.requested` decides. Nothing in it means `accept`."""
    if not body or body.isspace():
        return ()
    try:
        reply = _REGISTRATION_REPLY.validate_json(body)
    except ValidationError as error:
        return _invalid(body, content_type, error, REGISTRATION_ACTIONS)
    return tuple([action.to_decision() for action in reply.actions or ()])


def read_transfer_reply(body: bytes, content_type: str | None) -> tuple[TransferDecision, ...] | InvalidReply:
    """What a 2xx answer to `transfer.requested` decides. Nothing in it means `reject`."""
    if not body or body.isspace():
        return ()
    try:
        reply = _TRANSFER_REPLY.validate_json(body)
    except ValidationError as error:
        return _invalid(body, content_type, error, TRANSFER_ACTIONS)
    return tuple([action.to_decision() for action in reply.actions or ()])


def _invalid(body: bytes, content_type: str | None, error: ValidationError, names: frozenset[str]) -> InvalidReply:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        kind = f" ({quote(content_type)})" if content_type else ""
        return InvalidReply(f"the reply is no JSON: {first['ctx']['error']}; received {quote(body)}{kind}")
    refusals = refusals_of(error, tags=names)
    field, detail, received = refusals[0]
    more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
    return InvalidReply(f"{field or 'the reply'}: {detail}; received {received or quote(body)}{more}", field or None)
