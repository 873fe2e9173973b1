"""Everything a node holds: its conversations and their calls, its transactions, its outbox, its deadlines.

The one mutable state of the engine. The chapters beside it work on it: `signalling` (SIP in), `carrying` (what calls
ask), `delivering` (webhooks), `ownership` (the store's answers, claims). Effects are collected here until `give` ends.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from bridge.agenda import Agenda
from bridge.ambient import Seal, Tokens
from bridge.calls.actions import Action, Credentials
from bridge.calls.call import Call
from bridge.calls.effects import CallTimer, SendNotify
from bridge.calls.facts import CallId, ConversationId, EventId
from bridge.calls.inputs import CallInput
from bridge.calls.referral import TransferDecision
from bridge.calls.sealing import sealed_actions
from bridge.engine.admission import Admission
from bridge.engine.commit import Ending, EventWrite, Release, Take
from bridge.engine.effects import Effect
from bridge.engine.gate import Gate, Promised, Waiting
from bridge.engine.inputs import Input
from bridge.engine.names import Names
from bridge.engine.outages import Outages
from bridge.engine.registrar import Registrar
from bridge.engine.registrations import RegistrationDecision
from bridge.engine.settings import Application, NodeSettings, Renderer
from bridge.engine.trunks import Trunks
from bridge.outbox.queue import Outbox
from bridge.sip.dialog import Dialog
from bridge.sip.endpoint import Endpoint, RequestArrived
from bridge.sip.flow import Flow, Send
from bridge.sip.headers import Line
from bridge.sip.invite_usage import InviteUsage, UsageTimer
from bridge.sip.message import Request, Response
from bridge.sip.proxy import Admitted, Interface
from bridge.sip.proxy import Identity as ProxyIdentity
from bridge.sip.reliable import RELIABLE
from bridge.sip.replaces import EXTENSION
from bridge.sip.session_timer import TIMER
from bridge.sip.transaction import TransactionKey
from bridge.sip.user_agent import Capabilities


class NodeTimer(StrEnum):
    """Deadlines of the node itself, each per call."""

    TRYING = "trying"  # 100 leaves without the store's word
    STORE = "store"  # a caller waits no longer for the store
    ACKNOWLEDGE = "acknowledge"  # settled deliveries find no write to ride with
    PROVISIONAL = "provisional"  # a provisional response has no PRACK yet
    AUDIT = "audit"  # the store is back: does it still know this conversation?


RELEASES_KEPT_S = 30.0  # further behind is no replica that one should fail over to

TimerKey: TypeAlias = tuple[CallId, CallTimer | UsageTimer | NodeTimer]  # as text, no two of them are alike


class Proxied(NamedTuple):
    """Which copy of a call's INVITE a request of ours is (§16.6)."""

    serial: int  # of the passage
    attempt: int  # of its response context
    back: Flow  # by which the INVITE came


@dataclass(slots=True)
class OurRequest:
    """A request of ours whose responses concern a call: an INVITE of a search, a re-INVITE, a BYE.

    Kept as long as its transaction, and longer than its call may live: a 2xx that nobody wants any more is acknowledged,
    and ended, all the same (§13.2.2.4).
    """

    call: CallId
    request: Request
    flow: Flow
    attempt: int = 0  # of a search; 0: within the dialog
    credentials: Credentials | None = None
    challenges: int = 0  # answered so far
    dialog: Dialog | None = None  # that a BYE belongs to
    declined: dict[str, Send] = field(default_factory=dict)  # ACKs of answers that came too late, by their To tag
    proxied: Proxied | None = None  # it is no request of our own
    notice: SendNotify | None = None  # what a NOTIFY says


class Begin:
    """An errand: the first step of a new call."""


class Meeting:
    """An errand: whether a call can be joined with the one it is linked with."""


class Departure:
    """An errand: a call gets a conversation of its own, once those it leaves there know."""


Errand: TypeAlias = tuple[CallId, CallInput | Begin | Meeting | Departure]


class Unwritten:
    """What has changed in a conversation since it was last written: one write for all of it."""

    __slots__ = ("endings", "events", "promised", "takes", "waiting")

    def __init__(self, events: list[EventWrite] | None = None, endings: list[Ending] | None = None) -> None:
        self.waiting: list[Waiting] = []
        self.events = events or []
        self.endings = endings or []
        self.takes: tuple[Take, ...] = ()
        self.promised: Promised | None = None  # with an Idempotency-Key to claim


@dataclass(slots=True)
class Provisional:
    """A reliable provisional response on its way (RFC 3262 §3)."""

    key: TransactionKey
    response: Response
    interval: float  # seconds to the next copy, doubled each time
    until: float  # seconds UTC: 64·T1 after the first one


class Leg:
    """A call as this node carries it: the call itself, its INVITE usage, what of it is stored."""

    __slots__ = (
        "acks",
        "application",
        "asking",
        "call",
        "concluded",
        "cursors",
        "fixed",
        "holding",
        "listener",
        "notify_key",
        "passed_on",
        "proof",
        "provisional",
        "published",
        "queued",
        "snapshot",
        "stored",
        "takes",
        "update_key",
        "usage",
    )

    def __init__(
        self, call: Call, holding: Holding, application: Application, usage: InviteUsage, fixed: bytes
    ) -> None:
        self.call = call
        self.holding = holding
        self.application = application
        self.usage = usage
        self.fixed = fixed  # the snapshot's first part
        self.snapshot = 0  # the version of `fixed`
        self.listener = ""  # of a call that we make: the one whose identity it bears
        self.update_key: TransactionKey | None = None  # of their last UPDATE
        self.notify_key: TransactionKey | None = None  # of their last NOTIFY
        self.asking: EventId | None = None  # the event that asks what becomes of the far end's REFER
        self.provisional: Provisional | None = None  # that is repeated until its PRACK comes
        self.passed_on = False  # its INVITE came back: no other node had a call of it
        self.stored = False  # `fixed` has been written, as a part of this conversation
        self.takes: list[
            Take
        ] = []  # from the conversations it was in before: a whole rewrite has to take it from there
        self.proof: tuple[Line, ...] = ()  # what our last re-INVITE answered a challenge with
        self.acks: dict[str, int] = {}  # settled deliveries by endpoint, not yet written
        self.cursors: dict[str, int] = {}  # settled deliveries by endpoint
        # Events that some endpoint has not settled, by sequence: what a whole rewrite has to carry.
        self.published: dict[int, bytes] = {}
        self.queued = 0  # the last event that the outbox has been given
        self.concluded = False  # its final record is in the store


class Holding:
    """A conversation that is ours, and how far its record in the store has come."""

    __slots__ = (
        "aside",
        "created_at",
        "decided",
        "doubted",
        "epoch",
        "gate",
        "id",
        "legs",
        "nonce",
        "snapshot",
        "unknown",
        "unsure",
        "unwritten",
        "version",
    )

    def __init__(self, id: ConversationId, *, created_at: float, epoch: int, nonce: str) -> None:  # noqa: A002
        self.id = id
        self.created_at = created_at
        self.epoch = epoch
        self.nonce = nonce
        self.version = 0  # writes made, acknowledged or not
        self.snapshot = 0  # the version that whoever carries it on must read, as last written
        self.unknown = ""  # fields of its head that a newer release wrote: ours to carry, not to read
        self.decided = False  # a decision has come whose actions are not written: its ack must not be written alone
        self.gate = Gate()
        self.legs: dict[CallId, Leg] = {}
        self.unwritten: Unwritten | None = None
        self.unsure = False  # our lease had lapsed: somebody else may have it, until a write of ours is taken
        self.doubted = 0  # the last ticket before that: what the store has said to it was said before, too
        self.aside: list[Input] = []  # what waits for that

    @property
    def is_joined(self) -> bool:
        """Whether calls hear each other here."""
        return any(leg.call.is_joined for leg in self.legs.values())


class Holdings:
    """The state of one node."""

    __slots__ = (
        "admission",
        "again",
        "agenda",
        "capabilities",
        "chance",
        "conversations",
        "draining",
        "endpoint",
        "errands",
        "invites",
        "lease_until",
        "legs",
        "lingering",
        "live",
        "must_answer",
        "names",
        "ours",
        "out",
        "outages",
        "outbox",
        "proxy",
        "readers",
        "registrar",
        "released",
        "render",
        "seal",
        "serving",
        "settings",
        "snapshot",
        "store_away_since",
        "through",
        "ticket",
        "tickets",
        "tokens",
        "trunks",
        "unruled",
        "unwritten",
    )

    def __init__(
        self, settings: NodeSettings, *, render: Renderer, tokens: Tokens, chance: Callable[[], float], seal: Seal
    ) -> None:
        self.settings = replace(
            settings, applications=tuple([_with_sealed_plan(each, seal) for each in settings.applications])
        )
        self.render = render
        self.tokens = tokens
        self.chance = chance
        self.seal = seal
        self.names = Names(secret=settings.secret, node_id=settings.node_id)
        ours = Capabilities()
        self.capabilities = replace(
            ours,
            methods=(*ours.methods, "REGISTER"),
            extensions=ours.extensions | {"path", "outbound", TIMER, RELIABLE, EXTENSION},
        )
        self.admission = Admission(settings.admission)
        self.endpoint = Endpoint(timers=settings.timers)
        self.outbox: Outbox[Action | RegistrationDecision | TransferDecision] = Outbox(
            schedule=settings.schedule,
            decision_timeout_s=settings.decision_timeout_s,
            backlog_max=settings.backlog_max,
            in_flight_max=settings.in_flight_max,
            chance=chance,
            attempt_timeout_s=settings.webhook_timeout_s,
        )
        self.registrar = Registrar(settings.registrar, secret=settings.secret)
        self.agenda: Agenda[TimerKey] = Agenda()
        self.conversations: dict[ConversationId, Holding] = {}
        self.legs: dict[CallId, Leg] = {}
        self.live = 0  # calls that have not ended; ended ones whose events still wait do not count
        self.invites: dict[TransactionKey, CallId] = {}  # INVITE server transactions, for CANCEL
        self.ours: dict[TransactionKey, OurRequest] = {}  # requests of ours that calls wait for
        self.readers: dict[int, tuple[CallId, int]] = {}  # look-ups under way: for which attempt of which call
        self.outages = Outages()
        self.proxy = _proxy_of(settings)
        self.trunks = Trunks(settings.trunks)
        # Requests within dialogs of others that wait for the DNS: whom they go to, and by which interface they came.
        self.through: dict[int, tuple[str, Admitted, Interface]] = {}
        # Others that wait for what is bound: as they came, as they may pass, and what is said where nothing is.
        self.serving: dict[int, tuple[RequestArrived, Admitted, int]] = {}
        self.errands: deque[Errand] = deque()  # what steps have caused other calls to be told, oldest first
        self.unruled: dict[CallId, Leg] = {}  # calls whose media this input has changed
        self.unwritten: dict[ConversationId, Holding] = {}  # those that have changed and are not written yet
        self.tickets: dict[int, Holding] = {}
        self.ticket = 0
        self.released: deque[tuple[float, Release]] = deque()  # and when: the last that a failover may bring back
        self.store_away_since: float | None = None
        self.lease_until = math.inf  # seconds UTC; who has never been given a lease needs none
        self.snapshot = settings.snapshots[-1]  # the version of stored calls that we write
        self.lingering: Agenda[str] = Agenda()  # media sessions of calls that have gone to another node
        self.must_answer = False  # the message under way has been passed on in vain
        self.again: deque[Input] = deque()  # inputs that were put aside, and are not any more
        self.draining = False
        self.out: list[Effect] = []

    def taken(self) -> list[Effect]:
        """What has come together so far, which is whoever's from here on that carries it out."""
        effects, self.out = self.out, []
        return effects

    def new_ticket(self, holding: Holding) -> int:
        self.ticket += 1
        self.tickets[self.ticket] = holding
        return self.ticket

    def is_in_limbo(self, now: float) -> bool:
        """True once the store has not answered for so long that nobody should wait for it, or our lease has lapsed."""
        since = self.store_away_since
        return now > self.lease_until or (since is not None and now - since > self.settings.store_patience_s)

    def has_slept(self, now: float) -> bool:
        """True where our lease has lapsed and nobody has said that the store is away: we were not there to hear of it."""
        return now > self.lease_until and self.store_away_since is None

    def remember_release(self, release: Release, *, now: float) -> None:
        """A live record is of no use any more. A store that falls back may have it again, and nobody else would know."""
        self.released.append((now, release))
        while self.released[0][0] < now - RELEASES_KEPT_S:
            self.released.popleft()

    def new_reader(self, call: CallId, attempt: int) -> int:
        """The number of a look-up, under which its result comes back for this attempt."""
        self.ticket += 1
        self.readers[self.ticket] = (call, attempt)
        return self.ticket

    def changed(self, holding: Holding) -> Unwritten:
        """What is to be written of this conversation."""
        if holding.unwritten is None:
            holding.unwritten = Unwritten()
            self.unwritten[holding.id] = holding
        return holding.unwritten

    def new_nonce(self) -> str:
        """A nonce of its own for each conversation: should the same INVITE come again long after its call has ended, the
        store must not take the first write of the second call for one that it knows already."""
        return f"{self.settings.nonce}{self.ticket + 1}"

    def new_call_id(self) -> CallId:
        """Of a party that is dialed. What its INVITEs are called follows from it."""
        return CallId("call_" + self.tokens.token(24))

    def new_event_id(self) -> EventId:
        return EventId("evt_" + self.tokens.token(24))

    def application(self, name: str) -> Application | None:
        return next((each for each in self.settings.applications if each.name == name), None)


def _with_sealed_plan(application: Application, seal: Seal) -> Application:
    fallback = tuple(sealed_actions(application.plan.fallback, seal))
    return replace(application, plan=replace(application.plan, fallback=fallback))


def _proxy_of(settings: NodeSettings) -> ProxyIdentity:
    """Who we are as a proxy: what a URI means when it means us."""
    interfaces = frozenset(Interface.of(each.transport, each.sent_by) for each in settings.listeners.values())
    return ProxyIdentity(interfaces, domains=settings.domains)
