"""The store in a Redis (or Valkey): the keys and scripts of survival.md §2.

Hot writes leave through `connection`, all of a loop turn as one pipeline; each is one script, fenced, and may be
repeated. Reads, claims and announcements go through redis-py, with its own retries off: retrying is ours. Where the store
can fail over, both go where its primary is, and what must not be lost by that waits for a replica. Refuses to know what is
inside the records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Literal

import hiredis
import structlog
from redis.exceptions import RedisError

from bridge.engine.commit import Ack, Commit, Postponed, Release
from bridge.engine.inputs import CommitRefused, Committed, Input, StoreAway, StoreBack, StoreReplaced
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
from bridge.store.asking import client
from bridge.store.claims import RedisClaims
from bridge.store.commands import commit_command, flat_acks, registration_arguments
from bridge.store.connection import Connection, Tag
from bridge.store.proving import Proofs, Provisional
from bridge.store.reads import RedisReads
from bridge.store.records import remembered_of, stream
from bridge.store.scripts import ACKNOWLEDGE, COMMIT, FORGET, HOT, POSTPONE, PRUNE, REGISTER, RELEASE, pack
from bridge.store.server import Address, Reply

log = structlog.get_logger("bridge.store")

ACKNOWLEDGE_WITHIN_S = 0.005
RELEASE_WITHIN_S = 0.05
RELEASES_AT_ONCE = 64  # per script: none keeps a Redis busy for long
DELIVERIES_AT_ONCE = 512
OPEN_PATIENCE_S = 5.0
CLOSE_PATIENCE_S = 2.0

_COMMIT = ("EVALSHA", COMMIT.digest)
_APPLIED = 1
_REFUSALS: dict[int, Literal["lost", "stale", "exists"]] = {-1: "lost", -2: "stale", -3: "exists"}
_UNHEEDED: Final = "unheeded"  # tags of commands whose answer changes nothing ...
_PRUNED: Final = "pruned"  # ... or tells where to go on


class RedisStore(RedisClaims, RedisReads):
    """`Store` over one Redis. Every key begins with `prefix`, whose braces make it one slot of a Redis Cluster.

    `url` is one of the forms of `urls`. While the store is away commits are kept up to `queue_bytes_max` bytes; those beyond
    are refused as stale once it is back, which has their conversations written again as a whole. `observe` is told how long
    each command took, in seconds; `unreplicated`, what no replica has acknowledged in time ("claim", "origination").
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
        unreplicated: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._url = url
        self._give = give
        self._prefix = prefix
        self._retention_ms = int(retention_s * 1000)
        self._away_after_s = away_after_s
        self._queue_bytes_max = queue_bytes_max
        self._observe = observe
        self._reads = "".join([f",{version}," for version in reads])
        self._unreplicated = unreplicated
        self._proofs = Proofs(give, self._ask_and_wait, _judged, unreplicated)
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
            self._redis, self._discovery = client(self._url, self._prefix)
        except (ValueError, TypeError, RedisError, OSError) as error:
            raise StartError(f"store.url is not usable: {error}") from error
        self._connection = Connection(
            self._discovery,
            _greeting,
            answered=self._answered,
            away=self._gone,
            back=self._came_back,
            replaced=lambda: self._give(StoreReplaced()),
            away_after_s=self._away_after_s,
            observe=self._observe,
        )
        try:
            await self._connection.open(OPEN_PATIENCE_S)
        except StartError:
            await self._let_go()
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
        await self._proofs.close()
        await self._let_go()

    async def _let_go(self) -> None:
        await self._redis.aclose()
        await self._discovery.close()

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
        arguments = registration_arguments(self._prefix, write)
        self._connection.send(REGISTER.call(f"{self._prefix}:reg:{write.aor}", *arguments), write)
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
            packed = pack(*commit_command(_COMMIT, self._prefix, commit, riding, self._retention_ms))
            plain = commit.claim is None and not self._proofs.held
            connection.send(packed, Committed(commit.ticket) if plain else self._tag_of(commit))
            riding = []
        if riding:
            self._send_acks(riding)
        if self._postponed and not self._away:
            self._send_postponed()
        connection.flush()

    def _tag_of(self, commit: Commit) -> Tag:
        """What comes back with its answer. A failover must not lose a claimed key: that one's answer waits for a replica."""
        if commit.claim is not None and self._discovery.replicas:
            command = commit_command(("EVAL", COMMIT.text), self._prefix, commit, (), self._retention_ms)
            return self._proofs.expect(commit.conversation, commit.ticket, tuple(command))
        if commit.conversation in self._proofs.held:
            return self._proofs.expect(commit.conversation, commit.ticket, None)
        return Committed(commit.ticket)

    def _take_acks(self) -> list[str | int]:
        if self._acks_timer is not None:
            self._acks_timer.cancel()  # its waking would be for nothing
            self._acks_timer = None
        flat = flat_acks(self._acks)
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
                acks += flat_acks(cursors)
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
            self._give(tag if reply == _APPLIED else _judged(tag.ticket, reply))
            self._under_way -= 1
            if self._dropped:
                self._refuse_dropped()
        elif type(tag) is Provisional:
            self._proofs.answered(tag, _judged(tag.ticket, reply))
            self._under_way -= 1
            if self._dropped:
                self._refuse_dropped()
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

    def _refuse_dropped(self) -> None:
        """What found the queue full is refused behind the last of those that did not."""
        if not self._under_way:
            dropped, self._dropped = self._dropped, []
            for ticket in dropped:
                self._give(CommitRefused(ticket, "stale"))

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


def _judged(ticket: int, reply: Reply) -> Committed | CommitRefused:
    """What commit.lua says."""
    if reply == _APPLIED:
        return Committed(ticket)
    if isinstance(reply, int) and reply in _REFUSALS:
        return CommitRefused(ticket, _REFUSALS[reply])
    if isinstance(reply, list):
        return CommitRefused(ticket, "claimed", remembered_of(reply))
    # Somebody has meddled with our keys, and trying again will not help. This one conversation is let go, rather
    # than all others held up behind it.
    log.error("store_commit_failed", ticket=ticket, error=str(reply))
    return CommitRefused(ticket, "lost")


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


def _greeting(address: Address) -> list[bytes]:
    """What a connection says first: who we are, which database, and every script that will be called by name."""
    greeting = []
    if address.password is not None:
        user = () if address.username is None else (address.username,)
        greeting.append(pack("AUTH", *user, address.password))
    if address.database:
        greeting.append(pack("SELECT", address.database))
    return greeting + [pack("SCRIPT", "LOAD", script.text) for script in HOT]
