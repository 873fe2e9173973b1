"""What a node has been told about itself and its applications: plain values, filled in by the composition root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from bridge.calls.call import Call, Identity, Plan
from bridge.calls.events import Event
from bridge.calls.facts import ActionId, EventId
from bridge.calls.snapshot import READS
from bridge.engine.admission import AdmissionLimits
from bridge.engine.registrations import RegistrationEvent, User
from bridge.engine.trunks import Trunk
from bridge.outbox.effects import Endpoint
from bridge.outbox.schedule import Schedule
from bridge.sip.digest import Algorithm
from bridge.sip.flow import Flow
from bridge.sip.registrar import AddressOfRecord, Rules
from bridge.sip.transaction import Timers
from bridge.sip.uri import SipUri


@dataclass(frozen=True, slots=True)
class Match:
    """Which calls an application answers for. An empty match takes every call."""

    users: frozenset[str] = frozenset()  # the user part of the Request-URI: exact, or a prefix ending in "*"
    domains: frozenset[str] = frozenset()  # its host part, lower case


@dataclass(frozen=True, slots=True)
class Application:
    """One application: which calls are its, where its events go, what happens when it does not say."""

    name: str
    plan: Plan
    endpoints: tuple[Endpoint, ...]
    match: Match = field(default_factory=Match)
    registrations: bool = False  # whether it decides who may register
    transfers: bool = False  # whether it decides what becomes of a far end's REFER


@dataclass(frozen=True, slots=True)
class RegistrarSettings:
    """Who may register, for how long, and who has to prove who calls."""

    realm: str = "sip-bridge"
    algorithms: tuple[Algorithm, ...] = (Algorithm.MD5,)  # of challenges, the preferred one first
    nonce_lifetime_s: float = 300.0
    rules: Rules = field(default_factory=Rules)
    users: Mapping[str, User] = field(default_factory=dict)  # by username; those of the configuration
    authenticate: Literal["registered", "all", "none"] = "registered"  # which callers have to prove who they are
    known_max: int = 10_000  # registrations kept in mind to save a look at the store


@dataclass(frozen=True, slots=True)
class Listener:
    """One SIP listener as the far end sees it."""

    name: str  # "udp:0.0.0.0:5060", as flows name it
    sent_by: str  # for our Via: "192.0.2.10:5060"
    identity: Identity
    transport: str = "udp"
    version: int = 4  # of IP, as it is bound

    def named(self, *, secure: bool) -> Identity:
        """How we name ourselves here; `secure`: to a far end that has to be reached by `sips:`."""
        return self.identity.secured() if secure else self.identity


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Everything a node's decisions depend on besides its inputs."""

    owner: str  # "node_id:incarnation"
    node_id: str
    nonce: str  # breaks ties between owners of one epoch
    secret: bytes  # shared by all nodes: names are derived with it
    listeners: Mapping[str, Listener]
    applications: tuple[Application, ...]  # the first that matches answers
    server: str = "sip-bridge"  # our Server header where no call is concerned
    domains: frozenset[str] = frozenset()  # hosts of a Request-URI that are ours, lower case; empty: any
    outbound_proxy: SipUri | None = None  # the first Route of every call that we make but to registered phones
    registrar: RegistrarSettings = field(default_factory=RegistrarSettings)
    admission: AdmissionLimits = field(default_factory=AdmissionLimits)
    trunks: Mapping[str, Trunk] = field(default_factory=dict)  # by name; those of the configuration
    timers: Timers = field(default_factory=Timers)
    schedule: Schedule = field(default_factory=Schedule)
    decision_timeout_s: float = 5.0
    webhook_timeout_s: float = 10.0
    backlog_max: int = 10_000  # events waiting per endpoint
    in_flight_max: int = 100  # attempts at once per endpoint
    max_calls: int = 10_000
    max_events_per_call: int = 10_000
    trying_after_s: float = 0.1  # a 100 waits no longer for the store (§17.2.1 allows 0.2 s)
    store_patience_s: float = 2.0  # a new call waits no longer for the store
    snapshots: tuple[int, ...] = READS  # versions of stored calls that we read and write, ascending
    clustered: bool = False  # whether messages for other nodes' calls can be passed on
    acknowledge_after_s: float = 0.005  # a settled delivery waits so long for a write to ride with

    def listener_of(self, flow: Flow) -> Listener:
        """The listener of ours whose name we bear on this flow: its own, or one like it where another node holds it."""
        found = None if flow.node else self.listeners.get(flow.listener)
        if found is not None:
            return found
        alike = (each for each in self.listeners.values() if each.transport == flow.transport)
        return next(alike, next(iter(self.listeners.values())))


class Renderer(Protocol):
    """What the engine needs of the contract: bodies, rendered once, when they are stored."""

    def event(self, event_id: EventId, event: Event, call: Call, *, caused_by: ActionId | None, now: float) -> bytes:
        """The body of a webhook; `call.sequence` is its sequence."""
        ...

    def registration(
        self,
        event_id: EventId,
        event: RegistrationEvent,
        aor: AddressOfRecord,
        application: str,
        sequence: int,
        *,
        now: float,
    ) -> bytes:
        """The body of a webhook of an address of record's stream."""
        ...

    def record(self, call: Call) -> bytes:
        """The Call resource of an ended call."""
        ...
