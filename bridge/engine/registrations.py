"""What the engine asks of the world for its registrar, and what it is told: plain values beside `effects` and `inputs`.

A registration is all that the store has of one address of record: its bindings, and how far its stream of events has
come. It is written by compare and set, so two nodes at one address of record cannot lose each other's bindings, and its
events are written in the same step. Whoever wrote last delivers them: what another node has left goes along.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias

from bridge.engine.commit import Postponed
from bridge.sip.digest import Ha1
from bridge.sip.flow import Flow
from bridge.sip.registrar import AddressOfRecord, Binding

STREAM_PREFIX: Final = "aor:"  # what streams of registrations are called, before the address of record


@dataclass(frozen=True, slots=True)
class User:
    """Who may register and call, and what proves it."""

    username: str
    ha1: Ha1
    aor: AddressOfRecord | None = None  # None: the username, at any of our domains


@dataclass(frozen=True, slots=True)
class StoredRegistration:
    """One address of record as the store has it. Nothing is version 0."""

    version: int
    sequence: int  # of its last event
    bindings: bytes  # as `write_bindings` makes them


@dataclass(frozen=True, slots=True)
class StoredStream:
    """Events of one address of record that are not settled everywhere; ours to deliver now."""

    aor: AddressOfRecord
    events: tuple[tuple[int, bytes], ...]  # (sequence, body), ascending
    cursors: tuple[tuple[str, int], ...]  # (endpoint, settled up to)
    postponed: tuple[Postponed, ...] = ()


# Events: what a stream tells. Each names the user who proved to be it, where somebody did.


@dataclass(frozen=True, slots=True)
class RegistrationRequested:
    """A phone wants to register, and its application wants to be asked."""

    type: ClassVar[str] = "registration.requested"
    username: str | None
    contacts: tuple[Binding, ...]  # as they would be bound
    flow: Flow
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class BindingChanged:
    """A binding was made, renewed, taken away, or its time was up."""

    kind: Literal["created", "refreshed", "removed", "expired"]
    username: str | None  # None: nobody asked for it
    binding: Binding  # as it is now, or was last
    by: Literal["remote", "local"] | None = None  # of `removed`: the phone, or somebody by REST

    @property
    def type(self) -> str:
        return f"registration.{self.kind}"


@dataclass(frozen=True, slots=True)
class RegistrationRejected:
    """A REGISTER of this address of record was refused. Nothing has changed."""

    type: ClassVar[str] = "registration.rejected"
    username: str | None
    code: int  # as answered
    reason: str  # its reason phrase
    flow: Flow
    user_agent: str | None


RegistrationEvent: TypeAlias = RegistrationRequested | BindingChanged | RegistrationRejected

ASKING: Final = RegistrationRequested.type  # the one event whose webhook may decide


# What an application may reply to it


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptRegistration:
    """Let it register."""

    expires_s: int | None = None  # for so long at most


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectRegistration:
    """Refuse it; what was bound before stays."""

    code: int = 403
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeRegistration:
    """Let it prove once more that it knows the password."""


RegistrationDecision: TypeAlias = AcceptRegistration | RejectRegistration | ChallengeRegistration


# Effects


@dataclass(frozen=True, slots=True)
class ReadBindings:
    """What is bound to this address of record? `BindingsRead` comes back.

    `reader` is the asker's number and comes back with the answer. Negative ones are the registrar's own.
    """

    reader: int
    aor: str


@dataclass(frozen=True, slots=True)
class WriteRegistration:
    """One address of record, written if the store has version `expected`; the same write twice is applied once.

    No node writes the same address of record again before it has heard of the last time.
    `RegistrationWritten` or `RegistrationRefused` comes back.
    """

    ticket: int
    aor: AddressOfRecord
    expected: int
    version: int  # after this write
    write: str  # names the write
    owner: str  # "node_id:incarnation", who delivers this stream from here
    sequence: int  # of its last event, after this write
    bindings: bytes
    expires_ms: int | None  # UTC, when the first binding expires; None: there is none
    events: tuple[tuple[int, bytes], ...] = ()  # (sequence, body): the webhooks' bodies


@dataclass(frozen=True, slots=True)
class ForgetEvents:
    """Every event of this stream from `first` to `last` is settled everywhere. Nothing comes back."""

    aor: AddressOfRecord
    owner: str
    cursors: tuple[tuple[str, int], ...]  # (endpoint, settled up to)
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Deregistered:
    """The answer to a `Deregister`: how many bindings are gone; None: the store did not answer."""

    request: int
    bindings: int | None


# Inputs


@dataclass(frozen=True, slots=True)
class BindingsRead:
    """What is bound, expired ones included; None: the store does not answer."""

    reader: int
    aor: str
    bindings: tuple[Binding, ...] | None


@dataclass(frozen=True, slots=True)
class RegistrationWritten:
    """The store has acknowledged this write. `left`: what the stream's last owner, if it was another one, has not settled."""

    ticket: int
    left: StoredStream | None = None


@dataclass(frozen=True, slots=True)
class RegistrationRefused:
    """The store has not applied this write: it has another version, this one. None: it is away and its queue is full."""

    ticket: int
    stored: StoredRegistration | None


@dataclass(frozen=True, slots=True)
class RegistrationsDue:
    """Bindings of these addresses of record have expired."""

    aors: tuple[AddressOfRecord, ...]


@dataclass(frozen=True, slots=True)
class StreamsClaimed:
    """Streams that a dead predecessor left undelivered are ours now."""

    streams: tuple[StoredStream, ...]


@dataclass(frozen=True, slots=True)
class UsersChanged:
    """Users made or changed elsewhere than in the configuration; None: there is no such user any more."""

    users: Mapping[str, User | None]


@dataclass(frozen=True, slots=True)
class Deregister:
    """A REST request wants every binding of this address of record gone. Answered by exactly one `Deregistered`."""

    request: int  # the asker's number, echoed in the answer
    aor: AddressOfRecord


def stream_of(aor: AddressOfRecord) -> str:
    """The name of its stream of events."""
    return STREAM_PREFIX + aor


def aor_of(stream: str) -> AddressOfRecord | None:
    """The address of record whose stream this is; None for a call's."""
    return AddressOfRecord(stream[len(STREAM_PREFIX) :]) if stream.startswith(STREAM_PREFIX) else None


def write_bindings(bindings: Iterable[Binding]) -> bytes:
    """Bindings as the store keeps them."""
    data = {"v": 1, "bindings": [each.to_data() for each in bindings]}
    return json.dumps(data, separators=(",", ":")).encode("ascii")


def read_bindings(data: bytes) -> tuple[Binding, ...]:
    """The inverse. What is damaged, or of a release that we do not know, is left out: its phone will register again."""
    try:
        known = json.loads(data or b'{"v": 1, "bindings": []}')
        given = known["bindings"] if known["v"] == 1 else []
    except (ValueError, LookupError, TypeError):
        return ()
    found = []
    for each in given:
        try:
            found.append(Binding.from_data(each))
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
    return tuple(found)
