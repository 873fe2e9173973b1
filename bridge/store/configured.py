"""What one Redis would hold of users and trunks made by REST, and of the calls that have a place on a trunk: another part of
`keyspace`.

Refuses to know what is inside the records.
"""

from __future__ import annotations

from bridge.ambient import Clock
from bridge.calls.facts import CallId, ConversationId
from bridge.store import UNSTORED_MS, Caps, Changes, Kind
from bridge.store.tables import Table


class ConfiguredKeys:
    """Users, trunks, places. Whoever has the rest of the keys makes the tables."""

    _clock: Clock
    _calls: Table[CallId, ConversationId | bytes]  # bytes: the final record
    _records: Table[tuple[Kind, str], tuple[int, bytes | None]]  # revision, record
    _places: Table[tuple[str, CallId], int]  # by trunk and call: when it was taken (UTC ms)
    _begun: Table[str, tuple[int, int]]  # by trunk: the second that a call began in last, and how many did

    def put_record(self, kind: Kind, name: str, record: bytes | None) -> bool:
        """record.lua."""
        stored = self._records.get((kind, name))
        existed = stored is not None and stored[1] is not None
        if existed or record is not None:
            self._records.put((kind, name), (self._revision(kind) + 1, record))
        return existed

    def record(self, kind: Kind, name: str) -> bytes | None:
        stored = self._records.get((kind, name))
        return None if stored is None else stored[1]

    def changed_records(self, kind: Kind, since: int) -> Changes:
        revision = self._revision(kind)
        since = since if since <= revision else 0
        found = {name: record for (each, name), (at, record) in self._records.items() if each == kind and at > since}
        return Changes(revision, found)

    def _revision(self, kind: Kind) -> int:
        return max((revision for (each, _), (revision, _) in self._records.items() if each == kind), default=0)

    def take_place(self, trunk: str, call: CallId, caps: Caps) -> bool:
        """place.lua."""
        if self._places.get((trunk, call)) is not None:
            return True
        now_ms = int(self._clock.now() * 1000)
        if 0 < caps.calls <= len(self._places_on(trunk)):
            for each, at_ms in self._places_on(trunk):
                if at_ms <= now_ms - UNSTORED_MS and isinstance(self._calls.get(each), bytes | None):
                    self._places.drop((trunk, each))
            if caps.calls <= len(self._places_on(trunk)):
                return False
        if caps.per_second > 0:
            second, begun = self._begun.get(trunk) or (0, 0)
            begun = begun + 1 if second == now_ms // 1000 else 1
            self._begun.put(trunk, (now_ms // 1000, begun))
            if begun > caps.per_second:
                return False
        if caps.calls > 0:
            self._places.put((trunk, call), now_ms)
        return True

    def leave_place(self, trunk: str, call: CallId) -> None:
        self._places.drop((trunk, call))

    def _places_on(self, trunk: str) -> list[tuple[CallId, int]]:
        return [(call, at_ms) for (each, call), at_ms in self._places.items() if each == trunk]
