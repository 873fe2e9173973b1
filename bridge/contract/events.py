"""The webhook events of the contract, §3: one pydantic model per type, each naming what it adds to the Call it tells of.

A body is an envelope (`id`, `type`, `timestamp`, `api_version`) round `data`, as Standard Webhooks 1.0.0 suggests. The
service renders bodies in `bridge.contract.render`; these models publish their schemas and check them in tests.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from bridge.contract.envelope import Envelope
from bridge.contract.models import (
    ActionIdText,
    Call,
    CallIdText,
    ConversationIdText,
    Ended,
    HeaderLists,
    Quality,
    Resource,
    open_enum,
)

# Why an action failed. `action.failed` may name others later; a client treats an unknown one as "it failed".
FAILURES: dict[str, str] = {
    "wrong_state": "The action does not fit the state of the call.",
    "invalid_reply": "The application's reply is not of the documented shape; `field` says where.",
    "no_reply": "The application did not answer the decision in time, or not at all.",
    "no_common_codec": "The two calls have no codec in common, and each has refused the other's.",
    "overload": "There are as many calls as there may be: nobody is sought, or brought here from another node.",
    "refused": "The far end has refused the re-INVITE that this needs.",
    "not_found": "The call to join with is not alive.",
    "unreachable": "The call to join with is carried by another node, which has not let go of it in time.",
    "ended": "The call to join with has ended.",
    "invalid": "A call cannot be joined with itself.",
}


class EventData(Resource):
    """What every event says: which stream, where in it, and the Call as it was then."""

    stream: Annotated[CallIdText, Field(description="Scopes `sequence`. For events of a call: its id.")]
    sequence: Annotated[int, Field(ge=1, description="Counts the events of the stream, without a gap.")]
    previous_sequence: Annotated[
        int | None, Field(ge=0, description="The event of this stream before this one. Absent where it is not known.")
    ] = None
    call_id: CallIdText
    conversation_id: ConversationIdText
    application: str
    caused_by: Annotated[ActionIdText | None, Field(description="The action whose outcome this event tells.")]
    call: Call


class IncomingRequest(Resource):
    """The INVITE, as it came."""

    method: str
    uri: str
    headers: HeaderLists
    codecs: Annotated[list[str], Field(description="As offered, in that order. Empty: the offer comes later.")]


class CallIncomingData(EventData):
    """What `call.incoming` says."""

    request: IncomingRequest
    replaces_call_id: Annotated[
        CallIdText | None,
        Field(description="The call whose place this one takes once it is answered (RFC 3891). Null: none."),
    ] = None


class CallInitiatedData(EventData):
    """What `call.initiated` says."""

    targets: Annotated[list[str], Field(description="The URIs asked for, in their order.")]


class TargetData(EventData):
    """What `call.ringing` and `call.early_media` say."""

    target: Annotated[str, Field(description="Which of the targets.")]


class ContactData(Resource):
    """One place that a redirect names."""

    uri: str
    q: Annotated[float | None, Field(ge=0, le=1, description="The higher, the sooner. Null: it does not say.")]


class CallAttemptFailedData(TargetData):
    """What `call.attempt_failed` says."""

    code: Annotated[
        int,
        Field(ge=300, le=699, description="Its final SIP status; 408 where none came, 503 where it cannot be reached."),
    ]
    reason: Annotated[str, Field(description="Its reason phrase.")]
    contacts: Annotated[
        list[ContactData],
        Field(default_factory=list, description="What a 3xx has named, in its order, 20 at most; else empty."),
    ]


class PeerData(EventData):
    """What `call.joined` and `call.left` say."""

    peer_call_id: Annotated[CallIdText, Field(description="The other call.")]


class CallDtmfData(EventData):
    """What `call.dtmf` says."""

    digit: Annotated[str, Field(pattern=r"^[0-9*#A-D]$")]
    duration_ms: Annotated[int, Field(ge=0)]
    method: Annotated[
        Literal["rfc4733", "info"],
        open_enum("rfc4733", "info", description="How it came: an event in the audio stream, or a SIP INFO."),
    ]


class CallProxiedData(EventData):
    """What `call.proxied` says."""

    code: Annotated[int, Field(ge=200, le=699, description="The SIP status of the final response that has passed.")]
    reason: Annotated[str, Field(description="Its reason phrase.")]
    target: Annotated[str | None, Field(description="Whose it is. Null: ours, for nobody has answered.")]


class CallRedirectedData(EventData):
    """What `call.redirected` says."""

    code: Annotated[int, Field(ge=300, le=399, description="The SIP status that the caller got.")]
    contacts: Annotated[list[ContactData], Field(description="Where the caller was sent, in that order.")]


class TransferRequestedData(EventData):
    """What `transfer.requested` says."""

    to: Annotated[str, Field(description="Whom the far end names: the URI of Refer-To.")]
    referred_by: Annotated[str | None, Field(description="Who says that it refers: the URI of Referred-By.")]
    replaces_call_id: Annotated[
        CallIdText | None,
        Field(description="Attended: the call whose far end it is to be connected with, where that is a call of ours."),
    ]
    peer_call_id: Annotated[CallIdText, Field(description="The call that is to be connected.")]


class TransferData(EventData):
    """What `transfer.progress`, `.completed` and `.failed` say."""

    to: Annotated[str, Field(description="Whom the far end was asked to call: the URI of Refer-To.")]
    code: Annotated[
        int,
        Field(
            ge=100,
            le=699,
            description="What the far end tells of its own call, or its answer to the REFER itself; 408 where nothing came.",
        ),
    ]
    reason: Annotated[str, Field(description="Its reason phrase.")]


class CallAnsweredData(EventData):
    """What `call.answered` says."""

    ring_s: Annotated[float, Field(ge=0, description="Seconds from the INVITE to the ACK.")]


class CallEndedData(EventData):
    """What `call.ended` says."""

    ended: Ended
    duration_s: Annotated[float, Field(ge=0, description="From the INVITE to the end.")]
    answered_s: Annotated[float, Field(ge=0, description="From the ACK to the end; 0 when it was never answered.")]
    quality: Quality | None


class CallRecoveredData(EventData):
    """What `call.recovered` says."""

    from_node: Annotated[
        str, Field(description="The node that carried the call before; `to_node` where that is not known.")
    ]
    to_node: Annotated[str, Field(description="The node that carries it now.")]
    gap_ms: Annotated[
        int, Field(ge=0, description="From the former node's last sign of life to the far end's word to the new one.")
    ]


class ActionData(EventData):
    """What `action.completed` and `action.canceled` say."""

    action: str
    action_id: ActionIdText


class ActionFailedData(EventData):
    """What `action.failed` says."""

    action: Annotated[str | None, Field(description="Null where the application's reply could not be used.")]
    action_id: ActionIdText | None
    code: Annotated[str, open_enum(*FAILURES, description="What went wrong, as one word; see /docs/errors.")]
    detail: Annotated[str, Field(description="A sentence for a person: what was wrong, and what was received.")]
    field: Annotated[str | None, Field(description="Where in the reply it is wrong.", examples=["actions.0.code"])]


class CallIncoming(Envelope):
    """An INVITE wants a decision: reply with `{"actions": […]}`."""

    type: Literal["call.incoming"]
    data: CallIncomingData


class CallInitiated(Envelope):
    """A party is being called. Always the first event of an outbound call."""

    type: Literal["call.initiated"]
    data: CallInitiatedData


class CallRinging(Envelope):
    """The party's phone rings: the first of its targets does."""

    type: Literal["call.ringing"]
    data: TargetData


class CallEarlyMedia(Envelope):
    """The far end sends media before its answer."""

    type: Literal["call.early_media"]
    data: TargetData


class CallAttemptFailed(Envelope):
    """One target could not be had. Those given up because another one answered are not told of."""

    type: Literal["call.attempt_failed"]
    data: CallAttemptFailedData


class CallAnswered(Envelope):
    """The 2xx was acknowledged: both sides can talk."""

    type: Literal["call.answered"]
    data: CallAnsweredData


class CallJoined(Envelope):
    """It hears another call from here on, and is heard."""

    type: Literal["call.joined"]
    data: PeerData


class CallLeft(Envelope):
    """It does not hear the other call any more."""

    type: Literal["call.left"]
    data: PeerData


class CallDtmf(Envelope):
    """The far end has pressed a key."""

    type: Literal["call.dtmf"]
    data: CallDtmfData


class CallHeld(Envelope):
    """The far end put the call on hold."""

    type: Literal["call.held"]
    data: EventData


class CallResumed(Envelope):
    """The far end took the call off hold."""

    type: Literal["call.resumed"]
    data: EventData


class CallUpdated(Envelope):
    """The far end changed its media address or codecs."""

    type: Literal["call.updated"]
    data: EventData


class CallProxied(Envelope):
    """The final response has passed on its way to the caller. `call.ended` follows."""

    type: Literal["call.proxied"]
    data: CallProxiedData


class CallRedirected(Envelope):
    """The caller was sent elsewhere by a 3xx response. `call.ended` follows."""

    type: Literal["call.redirected"]
    data: CallRedirectedData


class TransferRequested(Envelope):
    """A phone asks for its partner to be connected with somebody else: reply with `{"actions": [{"action": "accept"}]}`. Only
    where an application opted in."""

    type: Literal["transfer.requested"]
    data: TransferRequestedData


class TransferProgress(Envelope):
    """The far end has taken our REFER (202), or tells how far it has come; or how far we have come with its own."""

    type: Literal["transfer.progress"]
    data: TransferData


class TransferCompleted(Envelope):
    """The far end has reached its target, or its partner has. `call.ended` follows."""

    type: Literal["transfer.completed"]
    data: TransferData


class TransferFailed(Envelope):
    """The target was not reached, or nobody would call it. The call goes on."""

    type: Literal["transfer.failed"]
    data: TransferData


class CallRecovered(Envelope):
    """The node that carried the call is gone; another one does, and its far end knows."""

    type: Literal["call.recovered"]
    data: CallRecoveredData


class CallEnded(Envelope):
    """The call is over. Always the last event of its stream."""

    type: Literal["call.ended"]
    data: CallEndedData


class ActionCompleted(Envelope):
    """An action that no other event tells of is done."""

    type: Literal["action.completed"]
    data: ActionData


class ActionFailed(Envelope):
    """An action could not be carried out, or the application's reply could not be used."""

    type: Literal["action.failed"]
    data: ActionFailedData


class ActionCanceled(Envelope):
    """An action was replaced by a newer one, or the call ended before its turn came."""

    type: Literal["action.canceled"]
    data: ActionData


EVENTS: tuple[type[Envelope], ...] = (
    CallIncoming,
    CallInitiated,
    CallRinging,
    CallEarlyMedia,
    CallAttemptFailed,
    CallAnswered,
    CallJoined,
    CallLeft,
    CallDtmf,
    CallHeld,
    CallResumed,
    CallUpdated,
    CallRedirected,
    CallProxied,
    TransferRequested,
    TransferProgress,
    TransferCompleted,
    TransferFailed,
    CallRecovered,
    CallEnded,
    ActionCompleted,
    ActionFailed,
    ActionCanceled,
)

AnyEvent: TypeAlias = Annotated[
    CallIncoming
    | CallInitiated
    | CallRinging
    | CallEarlyMedia
    | CallAttemptFailed
    | CallAnswered
    | CallJoined
    | CallLeft
    | CallDtmf
    | CallHeld
    | CallResumed
    | CallUpdated
    | CallRedirected
    | CallProxied
    | TransferRequested
    | TransferProgress
    | TransferCompleted
    | TransferFailed
    | CallRecovered
    | CallEnded
    | ActionCompleted
    | ActionFailed
    | ActionCanceled,
    Field(discriminator="type"),
]

ANY_EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


class EventList(Resource):
    """A page of a call's events, oldest first: byte for byte what the webhooks carry."""

    data: list[AnyEvent]
    next_cursor: str | None
