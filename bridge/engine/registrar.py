"""What a node holds as a registrar: users, nonces, who is busy registering, and the registrations it remembers.

The mutable state that `authenticating` and `registering` work on; they stand to it as the other chapters to `holdings`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bridge.agenda import Agenda
from bridge.engine.registrations import (
    RegistrationDecision,
    RegistrationRejected,
    StoredRegistration,
    User,
    read_bindings,
)
from bridge.engine.settings import RegistrarSettings
from bridge.outbox.effects import Event
from bridge.sip.authenticator import Authenticator
from bridge.sip.endpoint import RequestArrived
from bridge.sip.registrar import AddressOfRecord, Binding


@dataclass(frozen=True, slots=True)
class Record:
    """A registration as the store had it when we last heard of it."""

    version: int = 0
    sequence: int = 0
    bindings: tuple[Binding, ...] = ()

    @classmethod
    def of(cls, stored: StoredRegistration) -> Record:
        return cls(stored.version, stored.sequence, read_bindings(stored.bindings))


@dataclass(slots=True, eq=False)
class Asked:
    """A REGISTER whose sender has proved to be `username`."""

    arrived: RequestArrived
    username: str
    answered: bool = False  # whatever happens from here on is not for its sender to hear
    decision: RegistrationDecision | None = None  # the application's, once it has been asked
    asking: bool = False  # it is being asked


@dataclass(slots=True)
class Told:
    """A REGISTER has been refused: what is left to do is to tell of it."""

    event: RegistrationRejected


@dataclass(slots=True)
class Overdue:
    """The time of some binding is up."""


@dataclass(slots=True, eq=False)
class Dismissed:
    """Somebody wants every binding gone, by REST."""

    request: int
    answered: bool = False


Job: TypeAlias = Asked | Told | Overdue | Dismissed


class Desk:
    """One address of record that is being worked on: one job after the other, each seen through before the next."""

    __slots__ = ("after", "aor", "expected", "fresh", "jobs", "record", "removed", "told", "tries")

    def __init__(self, aor: AddressOfRecord, record: Record) -> None:
        self.aor = aor
        self.record = record
        self.expected = record.version  # what the store has, as far as we know
        self.jobs: deque[Job] = deque()
        self.after = record  # what there will be once it is acknowledged ...
        self.told: list[Event] = []  # ... and the events that it carries
        self.fresh = False  # what we know comes from the store, and was asked for by this job
        self.removed = 0  # bindings that this job has changed
        self.tries = 0  # writes of this job that met another version


@dataclass(slots=True)
class Stream:
    """The events of one address of record that are ours to deliver."""

    first: int  # the first that is not forgotten
    last: int = 0
    cursors: dict[str, int] = field(default_factory=dict)  # settled up to, by endpoint


class Registrar:
    """The registrar's part of a node's state."""

    __slots__ = (
        "_known",
        "_known_max",
        "_of_aor",
        "agenda",
        "authenticator",
        "complained",
        "desks",
        "made",
        "reader",
        "readers",
        "settings",
        "streams",
        "tickets",
    )

    def __init__(self, settings: RegistrarSettings, *, secret: bytes) -> None:
        self.settings = settings
        self.authenticator = Authenticator(
            secret=secret,
            realm=settings.realm,
            algorithms=settings.algorithms,
            lifetime_s=settings.nonce_lifetime_s,
        )
        self.made: dict[str, User] = {}  # users made by REST
        self._of_aor = {user.aor: user for user in settings.users.values() if user.aor is not None}
        self.desks: dict[AddressOfRecord, Desk] = {}
        self.streams: dict[AddressOfRecord, Stream] = {}
        self.tickets: dict[int, AddressOfRecord] = {}  # writes under way
        self.readers: dict[int, AddressOfRecord] = {}  # reads under way; ours have negative numbers
        self.reader = 0
        self.agenda: Agenda[Asked | Dismissed] = Agenda()  # until when they wait for the store
        self.complained: OrderedDict[AddressOfRecord, float] = OrderedDict()  # when a wrong password was last told of
        self._known: OrderedDict[AddressOfRecord, Record] = OrderedDict()
        self._known_max = settings.known_max

    @property
    def has_users(self) -> bool:
        return bool(self.settings.users or self.made)

    def user(self, username: str) -> User | None:
        """A user by name; the configuration's come first."""
        return self.settings.users.get(username) or self.made.get(username)

    def change_users(self, users: Mapping[str, User | None]) -> None:
        """What was made, changed or taken away by REST."""
        for username, user in users.items():
            before = self.made.pop(username, None)
            if before is not None and before.aor is not None and self._of_aor.get(before.aor) is before:
                del self._of_aor[before.aor]
            if user is None:
                continue
            self.made[username] = user
            if user.aor is not None:
                self._of_aor.setdefault(user.aor, user)

    def user_of(self, aor: AddressOfRecord) -> User | None:
        """Whose address of record this is, at a domain of ours."""
        found = self._of_aor.get(aor)
        if found is not None:
            return found
        user = self.user(aor.removeprefix("sip:").rpartition("@")[0])
        return user if user is not None and user.aor is None else None

    def known(self, aor: AddressOfRecord) -> Record:
        """What we remember of it; nothing is as good as version 0."""
        record = self._known.get(aor)
        if record is None:
            return Record()
        self._known.move_to_end(aor)
        return record

    def remember(self, aor: AddressOfRecord, record: Record) -> None:
        """The store has this."""
        self._known[aor] = record
        self._known.move_to_end(aor)
        if len(self._known) > self._known_max:
            self._known.popitem(last=False)
