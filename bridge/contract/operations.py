"""Every operation of the API, as data: what `/openapi.json` prints, and what `bridge.api` binds its handlers to.

One table for both, so that neither can know an operation that the other does not. Parts of the contract that are not
built are not in it, and answer 404. Knows nothing of HTTP servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

from bridge.contract.actions import COMMANDS, ActionList
from bridge.contract.events import EventList
from bridge.contract.models import (
    Call,
    CallList,
    Conversation,
    ConversationList,
    ConversationReceipt,
    Readiness,
    Receipt,
)
from bridge.contract.nodes import Node, NodeList
from bridge.contract.originating import OriginateBody
from bridge.contract.problems import PAGE, Code
from bridge.contract.queries import CallsQuery, PageQuery
from bridge.contract.registrations import Registration, RegistrationList, Removal, User, UserBody
from bridge.contract.trunks import Trunk, TrunkBody, TrunkList

Scope = Literal["read", "control", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "control", "admin")  # each includes those before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    id: str
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    tag: str
    summary: str
    description: str = ""
    scope: Scope | None = None  # None: open to everybody
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    body_required: bool = False
    idempotent: bool = False  # whether `Idempotency-Key` is read
    answers: Mapping[int, tuple[str, type[BaseModel] | str]]  # status → (description, model or media type)
    problems: tuple[Code, ...] = field(default=())


# An unknown query parameter is `invalid` everywhere.
_PROTECTED: tuple[Code, ...] = ("unauthorized", "forbidden", "invalid")
_READ: tuple[Code, ...] = (*_PROTECTED, "store_unavailable")
_COMMAND: tuple[Code, ...] = (*_PROTECTED, "not_found", "wrong_state", "store_unavailable", "timeout")
_BODY: tuple[Code, ...] = ("malformed", "too_large", "unsupported_media_type")
_ACCEPTED = {202: ("Accepted. Events tell the outcome.", Receipt)}

_CALLS: tuple[Operation, ...] = (
    Operation(
        id="list_calls",
        method="GET",
        path="/v1/calls",
        tag="calls",
        summary="List calls",
        description="Newest first: live ones, and ended ones for `store.retention_s`.",
        scope="read",
        query=CallsQuery,
        answers={200: ("A page of calls.", CallList)},
        problems=_READ,
    ),
    Operation(
        id="originate_call",
        method="POST",
        path="/v1/calls",
        tag="calls",
        summary="Call a party",
        description="Answered once the call is stored, before anybody is called. Events tell what comes of it.",
        scope="control",
        body=OriginateBody,
        body_required=True,
        idempotent=True,
        answers={201: ("The call as it was stored; `Location` names it.", Call)},
        problems=(
            *_PROTECTED,
            *("no_route", "key_reused", "not_found", "merged", "not_ready", "overload", "store_unavailable", "timeout"),
            *_BODY,
        ),
    ),
    Operation(
        id="read_call",
        method="GET",
        path="/v1/calls/{call_id}",
        tag="calls",
        summary="Read a call",
        scope="read",
        answers={200: ("The call.", Call)},
        problems=(*_PROTECTED, "not_found", "store_unavailable"),
    ),
    Operation(
        id="delete_call",
        method="DELETE",
        path="/v1/calls/{call_id}",
        tag="calls",
        summary="Hang up a call",
        description="Like `hangup`; a call that has ended already is no error.",
        scope="control",
        answers={**_ACCEPTED, 200: ("It had ended already.", Receipt)},
        problems=_COMMAND,
    ),
    Operation(
        id="list_call_events",
        method="GET",
        path="/v1/calls/{call_id}/events",
        tag="calls",
        summary="List the events of a call",
        description="Oldest first, byte for byte what the webhooks carry.",
        scope="read",
        query=PageQuery,
        answers={200: ("A page of events.", EventList)},
        problems=(*_READ, "not_found"),
    ),
    Operation(
        id="run_actions",
        method="POST",
        path="/v1/calls/{call_id}/actions",
        tag="actions",
        summary="Run a list of actions",
        description="Replaces what is left of the list that runs.",
        scope="control",
        body=ActionList,
        body_required=True,
        answers=_ACCEPTED,
        problems=(*_COMMAND, "ended", "no_route", *_BODY),
    ),
)

_SUMMARIES = {
    "hangup": "Hang up a call, with a reason",
    "dial": "Call a party and join it to a call",
    "join": "Join two calls",
    "leave": "Take a call out of its conversation",
    "hold": "Put the far end on hold",
    "unhold": "Take the far end off hold",
    "transfer": "Have the far end call somebody else",
}

_ACTIONS: tuple[Operation, ...] = tuple(
    Operation(
        id=f"{name}_call",
        method="POST",
        path=f"/v1/calls/{{call_id}}/{name}",
        tag="actions",
        summary=_SUMMARIES.get(name, f"{name.capitalize()} a call"),
        description=model.__doc__ or "",
        scope="control",
        body=model,
        body_required=any(field.is_required() for field in model.model_fields.values()) or name == "transfer",
        answers=_ACCEPTED,
        problems=(*_COMMAND, "ended", *_BODY, *(("no_route",) if name in ("dial", "transfer") else ())),
    )
    for name, model in COMMANDS.items()
)

_CONVERSATIONS: tuple[Operation, ...] = (
    Operation(
        id="list_conversations",
        method="GET",
        path="/v1/conversations",
        tag="conversations",
        summary="List conversations",
        description="Newest first.",
        scope="read",
        query=PageQuery,
        answers={200: ("A page of conversations.", ConversationList)},
        problems=_READ,
    ),
    Operation(
        id="read_conversation",
        method="GET",
        path="/v1/conversations/{conversation_id}",
        tag="conversations",
        summary="Read a conversation",
        scope="read",
        answers={200: ("The conversation.", Conversation)},
        problems=(*_PROTECTED, "not_found", "store_unavailable"),
    ),
    Operation(
        id="delete_conversation",
        method="DELETE",
        path="/v1/conversations/{conversation_id}",
        tag="conversations",
        summary="Hang up every call of a conversation",
        scope="control",
        answers={
            202: ("Accepted. Each call tells its end.", ConversationReceipt),
            200: ("All its calls had ended already.", ConversationReceipt),
        },
        problems=(*_COMMAND, "merged"),
    ),
)

_REGISTRATIONS: tuple[Operation, ...] = (
    Operation(
        id="list_registrations",
        method="GET",
        path="/v1/registrations",
        tag="registrations",
        summary="List registrations",
        description="Addresses of record that phones are bound to, in the order of their bytes.",
        scope="read",
        query=PageQuery,
        answers={200: ("A page of registrations.", RegistrationList)},
        problems=_READ,
    ),
    Operation(
        id="read_registration",
        method="GET",
        path="/v1/registrations/{aor}",
        tag="registrations",
        summary="Read a registration",
        scope="read",
        answers={200: ("Its bindings.", Registration)},
        problems=(*_PROTECTED, "not_found", "store_unavailable"),
    ),
    Operation(
        id="delete_registration",
        method="DELETE",
        path="/v1/registrations/{aor}",
        tag="registrations",
        summary="Remove every binding of an address of record",
        description="Its phones may register again. That none was bound is no error.",
        scope="control",
        answers={200: ("They are gone.", Removal)},
        problems=(*_PROTECTED, "store_unavailable", "timeout"),
    ),
)

_USERS: tuple[Operation, ...] = (
    Operation(
        id="put_user",
        method="PUT",
        path="/v1/users/{username}",
        tag="users",
        summary="Make or change a user",
        description="What it has registered stays. Other nodes know of it within two seconds.",
        scope="admin",
        body=UserBody,
        body_required=True,
        answers={200: ("It was there before, and is changed.", User), 201: ("It is made.", User)},
        problems=(*_PROTECTED, "managed_by_file", "store_unavailable", *_BODY),
    ),
    Operation(
        id="read_user",
        method="GET",
        path="/v1/users/{username}",
        tag="users",
        summary="Read a user",
        scope="admin",
        answers={200: ("The user, without its password.", User)},
        problems=(*_PROTECTED, "not_found", "store_unavailable"),
    ),
    Operation(
        id="delete_user",
        method="DELETE",
        path="/v1/users/{username}",
        tag="users",
        summary="Take a user away",
        description="It cannot register or renew any more. What it has registered stays until it expires, or is deleted.",
        scope="admin",
        answers={200: ("As it was.", User)},
        problems=(*_PROTECTED, "not_found", "managed_by_file", "store_unavailable"),
    ),
)

_TRUNKS: tuple[Operation, ...] = (
    Operation(
        id="list_trunks",
        method="GET",
        path="/v1/trunks",
        tag="trunks",
        summary="List trunks",
        description="Those of the configuration among them.",
        scope="read",
        query=PageQuery,
        answers={200: ("A page of trunks.", TrunkList)},
        problems=_READ,
    ),
    Operation(
        id="put_trunk",
        method="PUT",
        path="/v1/trunks/{name}",
        tag="trunks",
        summary="Make or change a trunk",
        description="As a whole: what the body leaves out is at its default. Calls that are up stay as they are. "
        "Other nodes know of it within two seconds.",
        scope="admin",
        body=TrunkBody,
        body_required=True,
        answers={200: ("It was there before, and is changed.", Trunk), 201: ("It is made.", Trunk)},
        problems=(*_PROTECTED, "managed_by_file", "store_unavailable", *_BODY),
    ),
    Operation(
        id="read_trunk",
        method="GET",
        path="/v1/trunks/{name}",
        tag="trunks",
        summary="Read a trunk",
        scope="read",
        answers={200: ("The trunk, without its password.", Trunk)},
        problems=(*_PROTECTED, "not_found", "store_unavailable"),
    ),
    Operation(
        id="delete_trunk",
        method="DELETE",
        path="/v1/trunks/{name}",
        tag="trunks",
        summary="Take a trunk away",
        description="No call begins by it any more. Those that are up stay.",
        scope="admin",
        answers={200: ("As it was.", Trunk)},
        problems=(*_PROTECTED, "not_found", "managed_by_file", "store_unavailable"),
    ),
)

_NODES: tuple[Operation, ...] = (
    Operation(
        id="list_nodes",
        method="GET",
        path="/v1/nodes",
        tag="nodes",
        summary="List nodes",
        description="Each as of its last renewal, a second ago at most; those that have stopped in order are not among them.",
        scope="read",
        query=PageQuery,
        answers={200: ("A page of nodes.", NodeList)},
        problems=_PROTECTED,
    ),
    Operation(
        id="drain_node",
        method="POST",
        path="/v1/nodes/{node_id}/drain",
        tag="nodes",
        summary="Empty a node",
        description="It takes nothing new and hands its calls over to the others, until it is restarted. No call is ended: "
        "what nobody can take stays. Any node takes this for any other; one that drains already is no error.",
        scope="admin",
        answers={202: ("The node as it is now.", Node)},
        problems=(*_PROTECTED, "not_found", "wrong_state", "node_unreachable"),
    ),
)

HEALTH: tuple[Operation, ...] = (
    Operation(
        id="live",
        method="GET",
        path="/livez",
        tag="service",
        summary="Does the process answer?",
        answers={200: ("It does.", "text/plain")},
    ),
    Operation(
        id="ready",
        method="GET",
        path="/readyz",
        tag="service",
        summary="Does it take new calls?",
        description="No while it starts and while it drains. A store that is away is an alert, not unreadiness.",
        answers={200: ("It does.", Readiness)},
        problems=("not_ready",),
    ),
    Operation(
        id="metrics",
        method="GET",
        path="/metrics",
        tag="service",
        summary="Metrics for Prometheus",
        answers={200: ("Text exposition format.", "text/plain")},
    ),
)

_DOCUMENTS: tuple[Operation, ...] = (
    Operation(
        id="openapi",
        method="GET",
        path="/openapi.json",
        tag="service",
        summary="This document",
        answers={200: ("OpenAPI 3.1.", "application/json")},
    ),
    Operation(
        id="errors",
        method="GET",
        path=PAGE,
        tag="service",
        summary="The list of problem codes",
        answers={200: ("One section for each code.", "text/markdown")},
    ),
)

OPERATIONS: tuple[Operation, ...] = (
    *_CALLS,
    *_ACTIONS,
    *_CONVERSATIONS,
    *_REGISTRATIONS,
    *_USERS,
    *_TRUNKS,
    *_NODES,
    *HEALTH,
    *_DOCUMENTS,
)
