"""Registrations and users as integrators see them: resources, events, and what an application may reply (contract §1–§3).

The models publish schemas and check, in tests, what `bridge.contract.registered` renders. Knows nothing of how a
registration comes about.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from bridge.contract.bodies import Body
from bridge.contract.envelope import Envelope
from bridge.contract.headers import OneLine
from bridge.contract.models import ActionIdText, Resource, Source, Timestamp, open_enum
from bridge.engine import registrations as engine

USERNAME = r"^[A-Za-z0-9_.+~-]{1,64}$"
PASSWORD_MAX = 256
EXPIRES_MAX_S = 604_800

AorText = Annotated[
    str, Field(description="The address of record: `sip:user@host`.", examples=["sip:alice@example.com"])
]
Username = Annotated[str, Field(pattern=USERNAME)]


class Flow(Resource):
    """The way that reaches a phone."""

    listener: Annotated[str, Field(description="Ours, as configured.", examples=["udp:0.0.0.0:5060"])]
    behind_nat: Annotated[bool, Field(description="The REGISTER came from another address than it says.")]


class Binding(Resource):
    """One phone's word where an address of record can be reached."""

    contact: Annotated[str, Field(description="The URI that it gave.")]
    q: Annotated[float, Field(ge=0, le=1, description="Its preference among the others.")]
    expires_at: Timestamp
    source: Annotated[Source, Field(description="Where its REGISTER came from.")]
    flow: Flow
    user_agent: str | None
    instance: Annotated[str | None, Field(description="`+sip.instance` (RFC 5626): which phone it is.")]
    reg_id: int | None
    path: Annotated[list[str], Field(description="Proxies on the way to it (RFC 3327), the nearest one first.")]


class Registration(Resource):
    """An address of record that phones are bound to."""

    aor: AorText
    bindings: Annotated[list[Binding], Field(description="The preferred one first.")]


class RegistrationList(Resource):
    """A page of registrations, in the order of their addresses."""

    data: list[Registration]
    next_cursor: str | None


class Removal(Resource):
    """Every binding of an address of record is gone; each tells it by `registration.removed`."""

    aor: AorText
    removed: Annotated[int, Field(ge=0, description="How many there were.")]


class User(Resource):
    """Who may register and call."""

    username: Username
    aor: Annotated[str | None, Field(description="Its one address of record. Null: `username` at any of our domains.")]
    source: Annotated[
        Literal["file", "api"],
        open_enum("file", "api", description="Where it stands. From a file it is read-only here."),
    ]


class UserBody(Body):
    """A user to be made or changed."""

    password: Annotated[
        str, Field(min_length=1, max_length=PASSWORD_MAX, description="Kept as HA1 (RFC 7616); never shown again.")
    ]
    aor: Annotated[str | None, Field(max_length=256, description="As in the User.")] = None


# Events


class RegistrationData(Resource):
    """What every event of a registration says."""

    stream: Annotated[
        str, Field(pattern="^aor:sip:", description="Scopes `sequence`: `aor:` and the address of record.")
    ]
    sequence: Annotated[int, Field(ge=1, description="Counts the events of the stream, without a gap.")]
    application: str
    caused_by: Annotated[ActionIdText | None, Field(description="Null: no action has an id here.")]
    aor: AorText
    username: Annotated[str | None, Field(description="Who proved to ask for it. Null: nobody did.")]


class BindingData(RegistrationData):
    """What `registration.created`, `.refreshed` and `.expired` say."""

    binding: Annotated[Binding, Field(description="As it is now, or as it was last.")]


class RemovedData(BindingData):
    """What `registration.removed` says."""

    by: Annotated[
        Literal["remote", "local"], open_enum("remote", "local", description="The phone, or somebody by REST.")
    ]


class RequestedData(RegistrationData):
    """What `registration.requested` says."""

    bindings: Annotated[list[Binding], Field(description="As they would be.")]
    source: Source
    user_agent: str | None


class RejectedData(RegistrationData):
    """What `registration.rejected` says."""

    code: Annotated[int, Field(ge=400, le=699, description="As answered.")]
    reason: str
    source: Source
    user_agent: str | None


class RegistrationRequested(Envelope):
    """A phone wants to register: reply with `{"actions": [{"action": "accept"}]}`. Only where an application opted in."""

    type: Literal["registration.requested"]
    data: RequestedData


class RegistrationCreated(Envelope):
    """A phone is bound to an address of record."""

    type: Literal["registration.created"]
    data: BindingData


class RegistrationRefreshed(Envelope):
    """A phone has renewed its binding."""

    type: Literal["registration.refreshed"]
    data: BindingData


class RegistrationRemoved(Envelope):
    """A binding was taken away."""

    type: Literal["registration.removed"]
    data: RemovedData


class RegistrationExpired(Envelope):
    """A binding was not renewed in time."""

    type: Literal["registration.expired"]
    data: BindingData


class RegistrationRejected(Envelope):
    """A REGISTER was refused: by the application, for want of room, or for a wrong password (told once a minute)."""

    type: Literal["registration.rejected"]
    data: RejectedData


REGISTRATION_EVENTS: tuple[type[Envelope], ...] = (
    RegistrationRequested,
    RegistrationCreated,
    RegistrationRefreshed,
    RegistrationRemoved,
    RegistrationExpired,
    RegistrationRejected,
)

REGISTRATION_TYPES: tuple[str, ...] = (
    "registration.requested",
    "registration.created",
    "registration.refreshed",
    "registration.removed",
    "registration.expired",
    "registration.rejected",
)

AnyRegistrationEvent: TypeAlias = (
    RegistrationRequested
    | RegistrationCreated
    | RegistrationRefreshed
    | RegistrationRemoved
    | RegistrationExpired
    | RegistrationRejected
)


ANY_REGISTRATION_EVENT: TypeAdapter[AnyRegistrationEvent] = TypeAdapter(
    Annotated[AnyRegistrationEvent, Field(discriminator="type")]
)


# What an application replies to `registration.requested`


class Accept(Body):
    """Let it register."""

    action: Literal["accept"]
    expires_s: Annotated[
        int | None, Field(ge=1, le=EXPIRES_MAX_S, description="For so long at most; without it, as it asked.")
    ] = None

    def to_decision(self) -> engine.RegistrationDecision:
        return engine.AcceptRegistration(expires_s=self.expires_s)


class RejectRegistration(Body):
    """Refuse it with a final response. What was bound before stays."""

    action: Literal["reject"]
    code: Annotated[int, Field(ge=400, le=699)] = 403
    reason: Annotated[OneLine | None, Field(description="The reason phrase; without one, the RFC's own.")] = None

    def to_decision(self) -> engine.RegistrationDecision:
        return engine.RejectRegistration(code=self.code, reason=self.reason)


class ChallengeRegistration(Body):
    """Let it prove once more that it knows the password."""

    action: Literal["challenge"]

    def to_decision(self) -> engine.RegistrationDecision:
        return engine.ChallengeRegistration()


RegistrationAction: TypeAlias = Annotated[
    Accept | RejectRegistration | ChallengeRegistration, Field(discriminator="action")
]
REGISTRATION_ACTIONS: frozenset[str] = frozenset({"accept", "reject", "challenge"})


class RegistrationReply(Body):
    """What an application answers to `registration.requested`. No actions: `accept`."""

    actions: Annotated[list[RegistrationAction] | None, Field(max_length=1)] = None
