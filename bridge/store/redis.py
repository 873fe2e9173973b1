"""The store in a Redis (or Valkey): the keys and scripts of survival.md §2.

Hot writes leave through `connection`, all of a loop turn as one pipeline; each is one script, fenced, and may be
repeated. Reads, claims and announcements go through redis-py, with its own retries off: retrying is ours. Refuses to
know what is inside the records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import hiredis
import structlog
from redis.exceptions import RedisError

from bridge.engine.commit import Ack, Commit, Postponed, Release
from bridge.engine.inputs import CommitRefused, Committed, Input, StoreAway, StoreBack
from bridge.engine.registrations import (
    BindingsRead,
    ForgetEvents,
    ReadBindings,
    RegistrationRefused,
    RegistrationWritten,
    StoredRegistration,
    WriteRegistration,
    read_bindings,
    stream_of,
)
from bridge.errors import StartError
from bridge.store import REMEMBERED_S
from bridge.store.asking import client
from bridge.store.claims import RedisClaims
from bridge.store.connection import Address, Connection, Reply, Tag
from bridge.store.reads import RedisReads
from bridge.store.records import remembered_of, stream
from bridge.store.scripts import ACKNOWLEDGE, COMMIT, FORGET, HOT, POSTPONE, PRUNE, REGISTER, RELEASE, pack

log = structlog.get_logger("bridge.store")

ACKNOWLEDGE_WITHIN_S = 0.005
RELEASE_WITHIN_S = 0.05
RELEASES_AT_ONCE = 64  # per script: none keeps a Redis busy for long
DELIVERIES_AT_ONCE = 512
CLOSE_PATIENCE_S = 2.0
REMEMBERED_MS = int(REMEMBERED_S * 1000)

_APPLIED = 1
_REFUSALS: dict[int, Literal["lost", "stale", "exists"]] = {-1: "lost", -2: "stale", -3: "exists"}
_UNHEEDED: Final = "unheeded"  # tags of commands whose answer changes nothing ...
_PRUNED: Final = "pruned"  # ... or tells where to go on


class RedisStore(RedisClaims, RedisReads):
    """`Store` over one Redis. Every key begins with `prefix`, whose braces make it one slot of a Redis Cluster.

    `url` is what redis-py understands: `redis://`, `rediss://` or `unix://`, with its options. While the store is away
    commits are kept up to `queue_bytes_max` bytes; those beyond are refused as stale once it is back, which has their
    conversations written again as a whole. `observe` is told how long each command took, in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        give: Callable[[Input], None],
        prefix: str = "{bridge}",
        retention_s: float = 86_400.0,
        away_after_s: float = 1.0,
        queue_bytes_max: int = 256 * 1024 * 1024,
        observe: Callable[[float], None] | None = None,
        reads: Sequence[int] = (),
    ) -> None:
        self._url = url
        self._give = give
        self._prefix = prefix
        self._retention_ms = int(retention_s * 1000)
        self._away_after_s = away_after_s
        self._queue_bytes_max = queue_bytes_max
        self._observe = observe
        self._reads = "".join([f",{version}," for version in reads])
        self._away = False
        self._commits: list[Commit] = []
        self._under_way = 0  # commits that wait for their answer
        self._dropped: list[int] = []  # tickets that found the queue full: refused when those before are answered
        self._acks: dict[str, dict[str, int]] = {}  # by stream
        self._postponed: dict[tuple[str, str], Postponed] = {}
        self._releases: list[tuple[Release, dict[str, dict[str, int]]]] = []
        self._forgotten: list[ForgetEvents] = []
        self._reading: set[ReadBindings] = set()
        self._turn_comes = False
        self._acks_timer: asyncio.TimerHandle | None = None
        self._release_timer: asyncio.TimerHandle | None = None
        self._prune_from = b"-inf"
        self._generation = 0  # of our announcements; 0 before the first
        self._connection: Connection
        self._loop: asyncio.AbstractEventLoop

    async def open(self) -> None:
        """Connect. Raises StartError when the URL is wrong, or nobody answers there, or refuses us."""
        self._loop = asyncio.get_running_loop()
        try:
            self._redis, address = client(self._url)
        except (ValueError, TypeError, RedisError, OSError) as error:
            raise StartError(f"store.url is not usable: {error}") from error
        self._connection = Connection(
            address,
            _greeting(address),
            answered=self._answered,
            away=self._gone,
            back=self._came_back,
            away_after_s=self._away_after_s,
            observe=self._observe,
        )
        try:
            await self._connection.open()
        except StartError:
            await self._redis.aclose()
            raise

    async def close(self) -> None:
        """Write what is queued, for at most two seconds, then let go."""
        for timer in (self._acks_timer, self._release_timer):
            if timer is not None:
                timer.cancel()
        self._write_turn()
        self._write_acks()
        self._write_releases()
        await self._connection.close(CLOSE_PATIENCE_S)
        await self._redis.aclose()

    # Hot writes.

    def commit(self, commit: Commit) -> None:
        """One fenced write: `Committed`, or `CommitRefused`, comes back."""
        self._commits.append(commit)
        self._ask_turn()

    def acknowledge(self, acks: Sequence[Ack]) -> None:
        """Deliveries settled. They ride with the next commit, or leave within 5 ms; nothing comes back."""
        for ack in acks:
            cursors = self._acks.setdefault(ack.call, {})
            if cursors.get(ack.endpoint, 0) < ack.sequence:
                cursors[ack.endpoint] = ack.sequence
        if self._acks_timer is None:
            self._acks_timer = self._loop.call_later(ACKNOWLEDGE_WITHIN_S, self._write_acks)

    def postpone(self, postponed: Postponed) -> None:
        """A delivery that is due again later; nothing comes back."""
        self._postponed[postponed.call, postponed.endpoint] = postponed
        self._ask_turn()

    def release(self, release: Release) -> None:
        """Drop the live record and keep the final ones; within 50 ms, nothing comes back."""
        # What is still to be acknowledged of these calls goes along: one script less.
        known = [call for call in release.calls if call in self._acks] if self._acks else []
        acks: dict[str, dict[str, int]] = {call: self._acks.pop(call) for call in known}
        self._releases.append((release, acks))
        if self._release_timer is None:
            self._release_timer = self._loop.call_later(RELEASE_WITHIN_S, self._write_releases)

    def write_registration(self, write: WriteRegistration) -> None:
        """One registration: `RegistrationWritten`, or `RegistrationRefused`, comes back."""
        if self._connection.queued_bytes > self._queue_bytes_max:
            self._loop.call_soon(self._give, RegistrationRefused(write.ticket, None))
            return
        node_id, _, incarnation = write.owner.rpartition(":")
        command: list[str | bytes | int] = [
            self._prefix,
            write.aor,
            write.expected,
            write.version,
            write.write,
            node_id,
            incarnation,
            write.sequence,
            write.bindings,
            "" if write.expires_ms is None else write.expires_ms,
            len(write.events),
        ]
        for event in write.events:
            command += event
        self._connection.send(REGISTER.call(f"{self._prefix}:reg:{write.aor}", *command), write)
        self._ask_turn()

    def read_bindings(self, wanted: ReadBindings) -> None:
        """`BindingsRead` comes back; without bindings where the store is away by then."""
        if self._away:
            self._loop.call_soon(self._give, BindingsRead(wanted.reader, wanted.aor, None))
            return
        self._reading.add(wanted)
        self._connection.send(pack("HGET", f"{self._prefix}:reg:{wanted.aor}", "bindings"), wanted)
        self._ask_turn()

    def forget_events(self, settled: ForgetEvents) -> None:
        """Events of a registration that every endpoint has; within 50 ms, nothing comes back."""
        self._acks.pop(stream_of(settled.aor), None)  # its cursors say the same
        self._forgotten.append(settled)
        if self._release_timer is None:
            self._release_timer = self._loop.call_later(RELEASE_WITHIN_S, self._write_releases)

    def _ask_turn(self) -> None:
        if not self._turn_comes:
            self._turn_comes = True
            self._loop.call_soon(self._write_turn)

    def _write_turn(self) -> None:
        """Everything this turn of the loop has asked for, as one write."""
        self._turn_comes = False
        commits, self._commits = self._commits, []
        riding: list[str | int] = []
        if commits and not self._away and 0 < len(self._acks) <= DELIVERIES_AT_ONCE:
            riding = self._take_acks()
        connection = self._connection
        for commit in commits:
            if self._dropped or connection.queued_bytes > self._queue_bytes_max:
                self._dropped.append(commit.ticket)
                continue
            self._under_way += 1
            connection.send(self._pack_commit(commit, riding), Committed(commit.ticket))
            riding = []
        if riding:
            self._send_acks(riding)
        if self._postponed and not self._away:
            self._send_postponed()
        connection.flush()

    def _pack_commit(self, commit: Commit, riding: list[str | int]) -> bytes:
        node_id, _, incarnation = commit.owner.rpartition(":")
        calls, events, acks, endings, claim = commit.calls, commit.events, commit.acks, commit.endings, commit.claim
        command: list[str | bytes | int] = [
            "EVALSHA",
            COMMIT.digest,
            1,
            f"{self._prefix}:conv:{commit.conversation}",
            self._prefix,
            commit.conversation,
            commit.epoch,
            commit.nonce,
            commit.version,
            node_id,
            incarnation,
            1 if commit.whole else 0,
            self._retention_ms,
            commit.head,
            len(calls),
            len(events),
            len(acks) + len(riding) // 3,
            len(endings),
            0 if claim is None else 1,
            len(commit.takes),
        ]
        for call in calls:
            command += (call.call, call.created_ms, call.fixed or b"", call.variable or b"")
        for event in events:
            command += (event.call, event.sequence, event.body)
        for ack in acks:
            command += (ack.call, ack.endpoint, ack.sequence)
        command += riding
        for ending in endings:
            command += (ending.call, ending.record)
        if claim is not None:
            command += (claim.key, claim.fingerprint, claim.call, claim.answer, REMEMBERED_MS)
        for take in commit.takes:
            command += (take.conversation, take.epoch, take.nonce, take.version, take.head, len(take.calls))
            command += take.calls
        return pack(*command)

    def _take_acks(self) -> list[str | int]:
        if self._acks_timer is not None:
            self._acks_timer.cancel()  # its waking would be for nothing
            self._acks_timer = None
        flat = _flat_acks(self._acks)
        self._acks = {}
        return flat

    def _write_acks(self) -> None:
        self._acks_timer = None
        if self._acks and not self._away:
            self._send_acks(self._take_acks())
            self._connection.flush()

    def _send_acks(self, flat: list[str | int]) -> None:
        size = 3 * DELIVERIES_AT_ONCE
        for start in range(0, len(flat), size):
            command = ACKNOWLEDGE.call(f"{self._prefix}:due", self._prefix, *flat[start : start + size])
            self._connection.send(command, _UNHEEDED)

    def _send_postponed(self) -> None:
        postponed, self._postponed = list(self._postponed.values()), {}
        for start in range(0, len(postponed), DELIVERIES_AT_ONCE):
            flat: list[str | int] = []
            for one in postponed[start : start + DELIVERIES_AT_ONCE]:
                flat += (one.call, one.endpoint, one.sequence, one.attempts, one.due_ms)
            self._connection.send(POSTPONE.call(f"{self._prefix}:due", self._prefix, *flat), _UNHEEDED)

    def _write_releases(self) -> None:
        self._release_timer = None
        if self._away:
            return
        if self._forgotten:
            self._write_forgotten()
        if not self._releases:
            return
        releases, self._releases = self._releases, []
        prefix = self._prefix
        for start in range(0, len(releases), RELEASES_AT_ONCE):
            acks: list[str | int] = []
            rows: list[str | int] = []
            batch = releases[start : start + RELEASES_AT_ONCE]
            for release, cursors in batch:
                acks += _flat_acks(cursors)
                node_id, _, incarnation = release.owner.rpartition(":")
                rows += (release.conversation, node_id, incarnation, len(release.calls), *release.calls)
            head = (prefix, self._retention_ms, len(batch), len(acks) // 3)
            self._connection.send(RELEASE.call(f"{prefix}:due", *head, *acks, *rows), _UNHEEDED)
        # Each release pays for looking at two old entries of the list: it stays as long as what it lists.
        prune = (prefix, self._prune_from, self._retention_ms, 2 * len(releases) + 8)
        self._connection.send(PRUNE.call(f"{prefix}:calls", *prune), _PRUNED)
        self._connection.flush()

    def _write_forgotten(self) -> None:
        forgotten, self._forgotten = self._forgotten, []
        for start in range(0, len(forgotten), RELEASES_AT_ONCE):
            batch = forgotten[start : start + RELEASES_AT_ONCE]
            rows: list[str | int] = []
            for each in batch:
                node_id, _, incarnation = each.owner.rpartition(":")
                rows += (each.aor, node_id, incarnation, each.first, each.last, len(each.cursors))
                rows += (word for cursor in each.cursors for word in cursor)
            self._connection.send(FORGET.call(f"{self._prefix}:due", self._prefix, len(batch), *rows), _UNHEEDED)
        self._connection.flush()

    # What comes back.

    def _answered(self, tag: Tag, reply: Reply) -> None:
        if type(tag) is Committed:
            if reply == _APPLIED:
                self._give(tag)
            else:
                self._refused(tag.ticket, reply)
            self._under_way -= 1
            if self._dropped and not self._under_way:
                dropped, self._dropped = self._dropped, []
                for ticket in dropped:
                    self._give(CommitRefused(ticket, "stale"))
        elif type(tag) is WriteRegistration:
            self._give(_registered(tag, reply))
        elif type(tag) is ReadBindings:
            if tag in self._reading:  # else it was told already that nobody answers
                self._reading.remove(tag)
                data = reply if isinstance(reply, bytes) else b""
                self._give(BindingsRead(tag.reader, tag.aor, read_bindings(data)))
        elif isinstance(reply, hiredis.ReplyError):
            log.error("store_command_failed", command=tag, error=str(reply))
        elif tag is _PRUNED and isinstance(reply, bytes):
            self._prune_from = reply

    def _refused(self, ticket: int, reply: Reply) -> None:
        if isinstance(reply, int) and reply in _REFUSALS:
            self._give(CommitRefused(ticket, _REFUSALS[reply]))
            return
        if isinstance(reply, list):
            self._give(CommitRefused(ticket, "claimed", remembered_of(reply)))
            return
        # Somebody has meddled with our keys, and trying again will not help. This one conversation is let go, rather
        # than all others held up behind it.
        log.error("store_commit_failed", ticket=ticket, error=str(reply))
        self._give(CommitRefused(ticket, "lost"))

    def _gone(self) -> None:
        self._away = True
        self._give(StoreAway())
        reading, self._reading = self._reading, set()
        for each in reading:
            self._give(BindingsRead(each.reader, each.aor, None))

    def _came_back(self) -> None:
        self._away = False
        self._write_turn()
        self._write_acks()
        self._write_releases()
        self._give(StoreBack())


def _registered(write: WriteRegistration, reply: Reply) -> RegistrationWritten | RegistrationRefused:
    """What register.lua says."""
    match reply:
        case [1]:
            return RegistrationWritten(write.ticket)
        case [1, list() as out]:
            return RegistrationWritten(write.ticket, stream(write.aor, out))
        case [0, int() as version, int() as sequence, bytes() as bindings]:
            return RegistrationRefused(write.ticket, StoredRegistration(version, sequence, bindings))
    log.error("store_registration_failed", aor=write.aor, error=str(reply))
    return RegistrationRefused(write.ticket, None)


def _flat_acks(acks: Mapping[str, Mapping[str, int]]) -> list[str | int]:
    return [word for call, cursors in acks.items() for row in cursors.items() for word in (call, *row)]


def _greeting(address: Address) -> list[bytes]:
    """What a connection says first: who we are, which database, and every script that will be called by name."""
    greeting = []
    if address.password is not None:
        user = () if address.username is None else (address.username,)
        greeting.append(pack("AUTH", *user, address.password))
    if address.database:
        greeting.append(pack("SELECT", address.database))
    return greeting + [pack("SCRIPT", "LOAD", script.text) for script in HOT]
