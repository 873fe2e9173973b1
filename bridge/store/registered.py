"""What one Redis would hold of addresses of record, and what the scripts do to it: the registrations' half of
`keyspace`.

Each method is one script or one read, applied at once. Refuses to know what is inside the records.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from bridge.ambient import Clock
from bridge.engine.commit import Ack, Postponed
from bridge.engine.registrations import (
    ForgetEvents,
    RegistrationRefused,
    RegistrationWritten,
    StoredRegistration,
    StoredStream,
    WriteRegistration,
    stream_of,
)
from bridge.sip.registrar import AddressOfRecord
from bridge.store import Due
from bridge.store.tables import Table

IDLE_S = 30 * 86_400.0  # for how long an address of record is remembered that nobody is bound to

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Out:
    """One call's events, and how far each endpoint has come."""

    events: Mapping[int, bytes] = field(default_factory=dict)
    cursors: Mapping[str, int] = field(default_factory=dict)
    postponed: Mapping[str, Postponed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Registration:
    """One address of record: what was written last, by whom, and whose stream that one took over."""

    written: WriteRegistration
    owner: str
    heir_of: str | None


class RegistrationKeys:
    """Bindings and their events. Whoever has the rest of the keys makes the tables."""

    _clock: Clock
    _out: Table[str, Out]
    _registrations: Table[AddressOfRecord, Registration]
    _streams: Table[tuple[str, AddressOfRecord], str]  # node id and address of record → incarnation

    def acknowledge(self, ack: Ack) -> None:
        """acknowledge.lua."""
        raise NotImplementedError

    def _may_take(self, node_id: str, by: str) -> bool:
        raise NotImplementedError

    def register(self, write: WriteRegistration) -> RegistrationWritten | RegistrationRefused:
        """register.lua."""
        stored = self._registrations.get(write.aor)
        if stored is not None and stored.written.write == write.write:
            return RegistrationWritten(write.ticket, self._left(write, stored.heir_of))
        version = stored.written.version if stored is not None else 0
        if version != write.expected:
            last = stored.written if stored is not None else None
            known = StoredRegistration(version, last.sequence if last else 0, last.bindings if last else b"")
            return RegistrationRefused(write.ticket, known)
        previous = stored.owner if stored is not None else None
        left = self._left(write, previous)
        stream = stream_of(write.aor)
        if write.events:
            out = self._out.get(stream) or Out()
            self._keep(self._out, stream, replace(out, events={**out.events, **dict(write.events)}), write)
        node_id, _, incarnation = write.owner.rpartition(":")
        if left is not None or write.events:
            self._streams.put((node_id, write.aor), incarnation)
        if previous is not None and previous.rpartition(":")[0] != node_id:
            self._streams.drop((previous.rpartition(":")[0], write.aor))
        self._keep(self._registrations, write.aor, Registration(write, write.owner, previous), write)
        return RegistrationWritten(write.ticket, left)

    @staticmethod
    def _keep(table: Table[K, V], key: K, value: V, write: WriteRegistration) -> None:
        """For ever, or, without bindings, for a while."""
        if write.expires_ms is None:
            table.put(key, value, keep_s=IDLE_S)
        else:
            table.drop(key)
            table.put(key, value)

    def _left(self, write: WriteRegistration, previous: str | None) -> StoredStream | None:
        """What another owner before this one has not settled."""
        if previous is None or previous == write.owner or self._out.get(stream_of(write.aor)) is None:
            return None
        return self._stream(write.aor)

    def forget_events(self, settled: ForgetEvents) -> None:
        """forget.lua."""
        stream = stream_of(settled.aor)
        for endpoint, sequence in settled.cursors:
            self.acknowledge(Ack(stream, endpoint, sequence))
        out = self._out.get(stream)
        if out is not None:
            kept = {
                sequence: body for sequence, body in out.events.items() if not settled.first <= sequence <= settled.last
            }
            self._out.put(stream, replace(out, events=kept))
        stored = self._registrations.get(settled.aor)
        if stored is not None and stored.owner == settled.owner and stored.written.sequence == settled.last:
            self._streams.drop((settled.owner.rpartition(":")[0], settled.aor))

    def claim_streams(self, owner: str, node_id: str) -> list[StoredStream]:
        """inherit.lua, for all that this node has left."""
        own_id, _, incarnation = owner.rpartition(":")
        claimed = []
        for node, aor in [key for key, _ in self._streams.items() if key[0] == node_id]:
            stored = self._registrations.get(aor)
            if stored is None or stored.owner.rpartition(":")[0] != node_id:
                self._streams.drop((node, aor))
                continue
            if not self._may_take(node_id, own_id):
                continue
            self._registrations.put(aor, replace(stored, owner=owner))
            self._streams.drop((node, aor))
            self._streams.put((own_id, aor), incarnation)
            if self._out.get(stream_of(aor)) is not None:
                claimed.append(self._stream(aor))
        return claimed

    def registration(self, aor: AddressOfRecord) -> bytes | None:
        stored = self._registrations.get(aor)
        return None if stored is None or stored.written.expires_ms is None else stored.written.bindings

    def list_registrations(self, after: AddressOfRecord | None, limit: int) -> list[tuple[AddressOfRecord, bytes]]:
        bound = [(aor, stored.written) for aor, stored in self._registrations.items() if stored.written.expires_ms]
        behind = sorted(
            (aor.encode(), aor, it.bindings) for aor, it in bound if after is None or aor.encode() > after.encode()
        )
        return [(aor, bindings) for _, aor, bindings in behind[:limit]]

    def due_registrations(self, now_ms: int, limit: int) -> Due:
        expiries = sorted(
            (stored.written.expires_ms, aor) for aor, stored in self._registrations.items() if stored.written.expires_ms
        )
        due = [aor for expires_ms, aor in expiries if expires_ms <= now_ms]
        return Due(tuple(due[:limit]), len(expiries))

    def _stream(self, aor: AddressOfRecord) -> StoredStream:
        out = self._out.get(stream_of(aor)) or Out()
        events, cursors = tuple(sorted(out.events.items())), tuple(sorted(out.cursors.items()))
        return StoredStream(aor, events, cursors, tuple(out.postponed.values()))
