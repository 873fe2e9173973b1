"""What is not hot, through redis-py: reads, claims, announcements, discovery and the like.

redis-py's own retries are off: whoever asks gets StoreUnavailable and asks again. Refuses to know what is inside the
records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from bridge.calls.facts import CallId, ConversationId
from bridge.engine.commit import Postponed, Remembered, StoredCall, StoredConversation
from bridge.engine.registrations import StoredStream, stream_of
from bridge.errors import StoreUnavailable
from bridge.sip.registrar import AddressOfRecord
from bridge.store import ConversationRecord, Due, Lease, UserChanges
from bridge.store.connection import Address
from bridge.store.scripts import ANNOUNCE, CLAIM, INHERIT, USER

TIMEOUT_S = 2.0
CONNECTIONS_MAX = 8
CLAIMS_AT_ONCE = 64
PAGE_MIN = 64


def client(url: str) -> tuple[Redis, Address]:
    """A redis-py client for this URL, and where it points to. Raises what redis-py raises for a URL it cannot use."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    untyped: Any = pool
    sample = untyped.make_connection()  # it has read the URL and its options as its documentation says
    unix = isinstance(sample, UnixDomainSocketConnection)
    address = Address(
        host="" if unix else sample.host,
        port=0 if unix else int(sample.port),
        path=sample.path if unix else None,
        username=sample.username,
        password=sample.password,
        database=int(sample.db or 0),
        tls=sample.ssl_context.get() if isinstance(sample, SSLConnection) else None,
    )
    return Redis.from_pool(pool), address


class RedisReads:
    """The half of `RedisStore` that awaits."""

    _prefix: str
    _redis: Any  # redis.asyncio.Redis, whose commands are not typed
    _generation: int  # of our announcements; 0 before the first

    async def announce(self, owner: str, facts: bytes, lease_s: float) -> Lease:
        """Renew our lease, with everything others should know of us (JSON)."""
        node_id, _, incarnation = owner.rpartition(":")
        key = f"{self._prefix}:node:{node_id}"
        arguments = (self._prefix, node_id, incarnation, self._generation, int(lease_s * 1000), facts)
        now, generation, holder = await self._ask("EVAL", ANNOUNCE.text, 1, key, *arguments)
        if holder.decode() != incarnation:
            return Lease(owner, now, f"{node_id}:{holder.decode()}")
        self._generation = generation
        return Lease(owner, now, None)

    async def claim_predecessors(self, owner: str, nonce: str) -> list[StoredConversation]:
        """Take over what other incarnations of our node_id own, each one epoch higher."""
        node_id, _, incarnation = owner.rpartition(":")
        owned: dict[bytes, bytes] = await self._ask("HGETALL", f"{self._prefix}:owned:{node_id}")
        names = [name.decode() for name in owned]
        claimed = []
        for start in range(0, len(names), CLAIMS_AT_ONCE):
            commands: list[tuple[object, ...]] = [("SCRIPT LOAD", CLAIM.text)]
            batch = names[start : start + CLAIMS_AT_ONCE]
            for name in batch:
                key = f"{self._prefix}:conv:{name}"
                commands.append(("EVALSHA", CLAIM.digest, 1, key, self._prefix, name, node_id, incarnation, nonce))
            answers = (await self._ask_all(commands))[1:]
            claimed += [_conversation(name, *answer) for name, answer in zip(batch, answers, strict=True) if answer]
        return claimed

    async def final_record(self, call: CallId) -> bytes | None:
        """The final record of an ended call; None while it is alive, and after the retention."""
        return _final(await self._ask("GET", f"{self._prefix}:call:{call}"))

    async def stored_call(self, call: CallId) -> StoredCall | None:
        """A call as it was last written; None when it has ended or is not known."""
        held: bytes | None = await self._ask("GET", f"{self._prefix}:call:{call}")
        if held is None or _final(held) is not None:
            return None
        key = f"{self._prefix}:conv:{held.decode()}"
        commands = (("HMGET", key, f"i:{call}", f"v:{call}"), ("HGETALL", f"{self._prefix}:out:{call}"))
        (fixed, variable), out = await self._ask_all(commands)
        return None if fixed is None else _call(call, fixed, variable or b"", out.items())

    async def events(self, call: CallId) -> list[tuple[int, bytes]] | None:
        """(sequence, body) ascending, delivered or not, until the retention is over; None for a call not known."""
        out: dict[bytes, bytes] = await self._ask("HGETALL", f"{self._prefix}:out:{call}")
        return list(_call(call, b"", b"", out.items()).events) if out else None

    async def list_calls(self, *, before: tuple[int, str] | None, limit: int) -> list[tuple[int, CallId, bytes | None]]:
        """(created in UTC ms, call, final record or None while alive), newest first, below `before`."""
        found: list[tuple[int, CallId, bytes | None]] = []
        size, skip = max(limit, PAGE_MIN), 0
        while len(found) < limit:
            top = "+inf" if before is None else before[0]
            page = (f"{self._prefix}:calls", top, "-inf", "WITHSCORES", "LIMIT", skip, size)
            flat = await self._ask("ZREVRANGEBYSCORE", *page)
            entries = [(int(float(flat[i + 1])), flat[i].decode()) for i in range(0, len(flat), 2)]
            fresh = [entry for entry in entries if before is None or entry < before]
            if fresh:
                records = await self._ask("MGET", *(f"{self._prefix}:call:{call}" for _, call in fresh))
                for (created_ms, call), held in zip(fresh, records, strict=True):
                    if held is not None:  # else the index is behind: its record is gone
                        found.append((created_ms, CallId(call), _final(held)))
                before, skip = fresh[-1], 0
            else:
                skip += len(entries)  # all of one millisecond, and all above
            if len(entries) < size:
                break
        return found[:limit]

    async def conversation(self, conversation: ConversationId) -> ConversationRecord | None:
        """As it was last written, until the retention after its release is over."""
        fields: dict[bytes, bytes] = await self._ask("HGETALL", f"{self._prefix}:conv:{conversation}")
        if not fields:
            return None
        calls = [name[2:] for name in fields if name.startswith(b"i:")] + fields.get(b"released", b"").split()
        merged = fields.get(b"merged_into")
        return ConversationRecord(
            fields[b"head"],
            tuple(CallId(call.decode()) for call in sorted(calls)),
            None if merged is None else ConversationId(merged.decode()),
        )

    async def remembered(self, key: str) -> Remembered | None:
        """What came of the first request with this Idempotency-Key; None for one that is not known."""
        fields = ("fingerprint", "call", "status", "answer")
        found: list[bytes | None] = await self._ask("HMGET", f"{self._prefix}:idem:{key}", *fields)
        return None if None in found else remembered_of(found)

    async def registration(self, aor: AddressOfRecord) -> bytes | None:
        """The bindings of an address of record, expired ones included; None where there are none."""
        scored, found = await self._ask_all(
            (("ZSCORE", f"{self._prefix}:aors", aor), ("HGET", f"{self._prefix}:reg:{aor}", "bindings"))
        )
        return None if scored is None else found

    async def list_registrations(
        self, *, after: AddressOfRecord | None, limit: int
    ) -> list[tuple[AddressOfRecord, bytes]]:
        """Addresses of record that have bindings, and those, in the order of their bytes, from the one behind `after`."""
        low = "-" if after is None else f"({after}"
        names = await self._ask("ZRANGEBYLEX", f"{self._prefix}:aors", low, "+", "LIMIT", 0, limit)
        aors = [AddressOfRecord(name.decode()) for name in names]
        found = await self._ask_all([("HGET", f"{self._prefix}:reg:{aor}", "bindings") for aor in aors]) if aors else []
        return [(aor, bindings or b"") for aor, bindings in zip(aors, found, strict=True)]

    async def due_registrations(self, now_ms: int, limit: int) -> Due:
        """Whose bindings have expired, at most `limit` of them."""
        key = f"{self._prefix}:reg-expiry"
        names, registered = await self._ask_all(
            (("ZRANGEBYSCORE", key, "-inf", now_ms, "LIMIT", 0, limit), ("ZCARD", key))
        )
        return Due(tuple(AddressOfRecord(name.decode()) for name in names), registered)

    async def claim_streams(self, owner: str) -> list[StoredStream]:
        """Take over the events of registrations that other incarnations of our node_id have not delivered."""
        node_id, _, incarnation = owner.rpartition(":")
        index: dict[bytes, bytes] = await self._ask("HGETALL", f"{self._prefix}:streams:{node_id}")
        names = [name.decode() for name in index]
        claimed = []
        for start in range(0, len(names), CLAIMS_AT_ONCE):
            commands: list[tuple[object, ...]] = [("SCRIPT LOAD", INHERIT.text)]
            batch = names[start : start + CLAIMS_AT_ONCE]
            for name in batch:
                key = f"{self._prefix}:reg:{name}"
                commands.append(("EVALSHA", INHERIT.digest, 1, key, self._prefix, name, node_id, incarnation))
            answers = (await self._ask_all(commands))[1:]
            claimed += [stream(AddressOfRecord(name), out) for name, out in zip(batch, answers, strict=True) if out]
        return claimed

    async def put_user(self, username: str, record: bytes) -> bool:
        """Keep this user. True where there was one of that name before."""
        return bool(await self._ask("EVAL", USER.text, 1, self._user_key(username), self._prefix, username, record))

    async def delete_user(self, username: str) -> bool:
        """True where there was one."""
        return bool(await self._ask("EVAL", USER.text, 1, self._user_key(username), self._prefix, username, b""))

    async def user(self, username: str) -> bytes | None:
        """Its record."""
        record: bytes | None = await self._ask("GET", self._user_key(username))
        return record

    async def changed_users(self, since: int) -> UserChanges:
        """What has changed since this revision; all there are, for one that the store has not reached."""
        revision = int(await self._ask("GET", f"{self._prefix}:users-revision") or 0)
        if revision == since:
            return UserChanges(revision, {})
        low = f"({since}" if since < revision else "-inf"
        names = await self._ask("ZRANGEBYSCORE", f"{self._prefix}:users", low, "+inf")
        usernames = [name.decode() for name in names]
        records = await self._ask("MGET", *map(self._user_key, usernames)) if usernames else []
        return UserChanges(revision, dict(zip(usernames, records, strict=True)))

    def _user_key(self, username: str) -> str:
        return f"{self._prefix}:user:{username}"

    async def secret(self, name: str, proposal: str) -> str:
        """The secret of this name: `proposal` if it is the first, else what was stored."""
        key = f"{self._prefix}:secret:{name}"
        _, stored = await self._ask_all((("SET", key, proposal, "NX"), ("GET", key)))
        secret: bytes = stored
        return secret.decode()

    async def facts(self) -> dict[str, str]:
        """What `doctor` looks at: software, version, durability settings."""
        info: dict[str, Any] = await self._ask("INFO")
        facts = {
            "software": str(info.get("server_name", "redis")),
            "version": str(info.get("valkey_version", info.get("redis_version", "unknown"))),
            "role": str(info.get("role", "unknown")),
            "replicas": str(info.get("connected_slaves", 0)),
            "used_memory": str(info.get("used_memory", "unknown")),
            "maxmemory": str(info.get("maxmemory", "unknown")),
            "maxmemory-policy": str(info.get("maxmemory_policy", "unknown")),
            "appendonly": "yes" if info.get("aof_enabled") else "no",
        }
        for name in ("appendfsync", "min-replicas-to-write"):
            try:
                answer = await self._redis.execute_command("CONFIG GET", name)
                facts[name] = answer[name]
            except (ResponseError, KeyError):
                facts[name] = "unknown"  # hosted services forbid to ask
            except (RedisError, OSError, TimeoutError) as error:
                raise StoreUnavailable(f"CONFIG GET: {error}") from error
        return facts

    async def _ask(self, *command: Any) -> Any:
        try:
            return await self._redis.execute_command(*command)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"{command[0]}: {error}") from error

    async def _ask_all(self, commands: Sequence[tuple[object, ...]]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            answers: list[Any] = await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"{commands[-1][0]}: {error}") from error
        return answers


def _final(held: bytes | None) -> bytes | None:
    """`call:{id}` names a conversation while the call is alive, and is its final record (JSON) afterwards."""
    return held if held is not None and held.startswith(b"{") else None


def remembered_of(fields: Sequence[Any]) -> Remembered:
    """A claim as it is stored: fingerprint, call, status, answer."""
    fingerprint, call, status, answer = fields
    return Remembered(fingerprint.decode(), CallId(call.decode()), int(status), answer)


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def stream(aor: AddressOfRecord, flat: Sequence[bytes]) -> StoredStream:
    """The fields of a registration's `out` as a stream."""
    call = _call(stream_of(aor), b"", b"", _pairs(flat))
    return StoredStream(aor, call.events, call.cursors, call.postponed)


def _call(call: str, fixed: bytes, variable: bytes, out: Iterable[tuple[bytes, bytes]]) -> StoredCall:
    events, cursors, postponed = [], [], []
    for name, value in out:
        kind, rest = name[:2], name[2:].decode()
        if kind == b"e:":
            events.append((int(rest), value))
        elif kind == b"c:":
            cursors.append((rest, int(value)))
        elif kind == b"a:":
            sequence, attempts, due_ms = map(int, value.split())
            postponed.append(Postponed(CallId(call), rest, sequence, attempts, due_ms))
    key = CallId(call)
    return StoredCall(key, fixed, variable, tuple(sorted(events)), tuple(sorted(cursors)), tuple(postponed))


def _conversation(name: str, flat: list[bytes], *outs: list[Any]) -> StoredConversation:
    fields = dict(_pairs(flat))
    calls = []
    for call, out in outs:
        variable = fields.get(b"v:" + call, b"")
        calls.append(_call(call.decode(), fields[b"i:" + call], variable, _pairs(out)))
    return StoredConversation(
        conversation=ConversationId(name),
        epoch=int(fields[b"epoch"]),
        nonce=fields[b"nonce"].decode(),
        version=int(fields[b"version"]),
        head=fields[b"head"],
        calls=tuple(sorted(calls, key=lambda stored: stored.call)),
    )
