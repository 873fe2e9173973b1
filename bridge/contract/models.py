"""The resources integrators read, as pydantic models: Call, Conversation, their lists, the receipt of a command, a problem.

The single source of the published schemas. The service itself renders plain dictionaries (`bridge.contract.render`);
tests hold every one of them against these models, which are therefore strict, while the schemas they publish are open:
within v1 fields and enum values are added, never removed or retyped, and clients are told to ignore what they do not
know. Knows nothing of how a resource comes about.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from bridge.calls.facts import END_REASONS, CallState, Direction, EndedBy

T = TypeVar("T")


def id_pattern(prefix: str) -> str:
    """The pattern of an id: its kind, then what makes it the only one. Opaque to its readers."""
    return f"^{prefix}_[a-z0-9_]{{1,64}}$"


def open_enum(*values: str, description: str) -> WithJsonSchema:
    """A schema that names today's values without closing the list: generated clients survive a new one.

    `x-extensible-enum` is the keyword of Zalando's REST guidelines (rule 112) for exactly this.
    """
    return WithJsonSchema({"type": "string", "x-extensible-enum": list(values), "description": description})


def _leave_open(schema: dict[str, Any]) -> None:
    schema.pop("additionalProperties", None)


class Resource(BaseModel):
    """What the service says. Strict towards ourselves, open towards the reader."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True, json_schema_extra=_leave_open)


Timestamp = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        description="ISO 8601, UTC, with milliseconds.",
        json_schema_extra={"format": "date-time"},
    ),
]
CallIdText = Annotated[str, Field(pattern=id_pattern("call"))]
ConversationIdText = Annotated[str, Field(pattern=id_pattern("conv"))]
ActionIdText = Annotated[str, Field(pattern=id_pattern("act"))]
EventIdText = Annotated[str, Field(pattern=id_pattern("evt"))]
HeaderLists = Annotated[
    dict[str, list[str]], Field(description="Header names as the RFC writes them, each with its values.")
]
Count = Annotated[int, Field(ge=0)]


class Party(Resource):
    """One end of a call, as its From or To header names it."""

    uri: str
    user: str | None
    host: str | None
    display_name: str | None


class Source(Resource):
    """Where the call's first message came from."""

    address: Annotated[str, Field(description="IP address and port; IPv6 in brackets.")]
    transport: Annotated[str, open_enum("udp", "tcp", "tls", "ws", "wss", description="How it came.")]


class Attempt(Resource):
    """One dialog sought for a call. An inbound call has one: its own; an outbound one has one for each target tried."""

    target: Annotated[str, Field(description="The URI that was called.")]
    sip_call_id: str
    code: Annotated[int | None, Field(description="The final SIP status; null while there is none.")]
    reason: Annotated[str | None, Field(description="Its reason phrase.")]
    trunk: Annotated[str | None, Field(description="The trunk that it was called by; null: by none.")] = None


class Sip(Resource):
    """What SIP calls this call."""

    call_id: Annotated[str, Field(description="The Call-ID header: the key to a packet capture.")]
    user_agent: str | None
    headers: HeaderLists


class Quality(Resource):
    """What was counted, both directions."""

    packets_received: Count
    bytes_received: Count
    packets_sent: Count
    bytes_sent: Count
    packets_lost: Annotated[
        int, Field(description="From sequence numbers (RFC 3550); duplicates can make it negative.")
    ]
    jitter_ms: Annotated[float, Field(ge=0)]
    strangers: Annotated[int, Field(ge=0, description="Packets from a source that was not allowed; dropped.")]
    invalid: Annotated[
        int, Field(ge=0, description="Packets that are no RTP, or not of a negotiated payload type; dropped.")
    ]
    packets_relayed: Annotated[
        int, Field(ge=0, description="Of those received: sent on to the call that this one is joined with.")
    ] = 0
    remote_packets_lost: Annotated[
        int | None, Field(description="Of those sent, as the far end reports by RTCP; null: it does not.")
    ] = None
    remote_jitter_ms: Annotated[float | None, Field(description="Of those sent, as the far end reports by RTCP.")] = (
        None
    )
    round_trip_ms: Annotated[
        float | None, Field(description="From us to the far end and back, where RTCP of a joined call tells.")
    ] = None


class Media(Resource):
    """The audio stream as negotiated, and at the end what came of it."""

    codec: Annotated[str | None, Field(examples=["PCMU/8000"])]
    local: Annotated[str | None, Field(examples=["192.0.2.10:20000"])]
    remote: str | None
    held: Annotated[bool, Field(description="The far end does not want to hear us at the moment.")]
    quality: Annotated[Quality | None, Field(description="Filled at the end of the call.")]


class Ended(Resource):
    """Why a call is over."""

    by: Annotated[EndedBy, open_enum(*get_args(EndedBy), description="Who ended it.")]
    reason: Annotated[
        Literal[END_REASONS],  # type: ignore[valid-type]  # mypy wants literals spelled out; the list has one home
        open_enum(*END_REASONS, description="Why, as one word."),
    ]
    sip_code: Annotated[int | None, Field(ge=100, le=699)]
    sip_reason: str | None
    q850: Annotated[int | None, Field(description="ISDN cause from a Reason header (RFC 3326).")]


class Call(Resource):
    """One party sought or connected: what a person would name "the call to or from that phone"."""

    id: CallIdText
    conversation_id: ConversationIdText
    application: str
    direction: Annotated[Direction, open_enum(*get_args(Direction), description="Who began it, as we see it.")]
    state: Annotated[CallState, open_enum(*get_args(CallState), description="How far it has come.")]
    early_media: bool
    from_: Annotated[Party, Field(alias="from")]
    to: Party
    source: Annotated[Source | None, Field(description="Null for an outbound call.")]
    authenticated_as: str | None
    trunk: Annotated[
        str | None,
        Field(description="The trunk whose address it came from, or that its party answered by; null: none."),
    ] = None
    created_at: Timestamp
    answered_at: Timestamp | None
    ended_at: Timestamp | None
    attempts: list[Attempt]
    sip: Sip
    media: Media | None
    ended: Ended | None
    recovered: Annotated[int, Field(ge=0, description="How many times another process has carried it on.")]
    client_state: Annotated[str | None, Field(description="The application's own words, as an action last set them.")]
    tags: list[str]


class CallList(Resource):
    """A page of calls, newest first."""

    data: list[Call]
    next_cursor: Annotated[
        str | None,
        Field(description="Give it as `cursor` for the next page. Null, and only null, says that there is none."),
    ]


class Receipt(Resource):
    """A command was accepted; events tell its outcome."""

    action_id: Annotated[
        ActionIdText | None,
        Field(description="Of the action, or of a list's first one; `caused_by` of the event that tells its outcome."),
    ]
    action_ids: Annotated[list[ActionIdText], Field(description="Of every action of a list, in its order.")]
    call: Annotated[
        Call | None, Field(description="The call now. Null where it could not be read; the command counts.")
    ]


class Conversation(Resource):
    """The calls that hear each other, or are being connected for that. Every call is in exactly one."""

    id: ConversationIdText
    calls: list[CallIdText]
    joined: Annotated[bool, Field(description="More than one call, and they hear each other.")]
    created_at: Timestamp
    merged_into: Annotated[ConversationIdText | None, Field(description="The conversation a join moved its calls to.")]


class ConversationList(Resource):
    """A page of conversations, newest first."""

    data: list[Conversation]
    next_cursor: str | None


class ConversationReceipt(Resource):
    """Every call of the conversation is being hung up; each tells its end by `call.ended`."""

    action_ids: list[ActionIdText]
    conversation: Conversation


class Readiness(Resource):
    """This process takes new calls."""

    status: Literal["ready"]


class FieldProblem(Resource):
    """One field of a request that cannot be taken."""

    field: Annotated[str, Field(description="The JSON path, or `query.<name>`.", examples=["actions.0.code"])]
    detail: str


class Problem(Resource):
    """An error, as RFC 9457 writes it."""

    type: Annotated[str, Field(examples=["/docs/errors#wrong_state"])]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="A sentence for a person.")]
    code: Annotated[str, Field(description="One of the list at /docs/errors.", examples=["wrong_state"])]
    call_id: Annotated[str | None, Field(description="The call it is about, where known.")] = None
    errors: Annotated[list[FieldProblem] | None, Field(description="Every field that is wrong.")] = None
