"""What a reader asks a Redis: calls, conversations, registrations, users and trunks, facts.

Refuses to know what is inside the records.
"""

from __future__ import annotations

from typing import Any

from redis.exceptions import RedisError, ResponseError

from bridge.calls.facts import CallId, ConversationId
from bridge.engine.commit import Remembered, StoredCall
from bridge.errors import StoreUnavailable
from bridge.sip.registrar import AddressOfRecord
from bridge.store import (
    PLACE_KEPT_MS,
    PLACES_AT_ONCE,
    UNSTORED_MS,
    Caps,
    Changes,
    ConversationRecord,
    Due,
    Kind,
    Whereabouts,
)
from bridge.store.asking import RedisAsking
from bridge.store.records import call_of, final, remembered_of
from bridge.store.scripts import PLACE, RECORD

PAGE_MIN = 64


class RedisReads(RedisAsking):
    """The half of `RedisStore` that awaits."""

    async def final_record(self, call: CallId) -> bytes | None:
        """The final record of an ended call; None while it is alive, and after the retention."""
        return final(await self._ask("GET", f"{self._prefix}:call:{call}"))

    async def stored_call(self, call: CallId) -> StoredCall | None:
        """A call as it was last written; None when it has ended or is not known."""
        held: bytes | None = await self._ask("GET", f"{self._prefix}:call:{call}")
        if held is None or final(held) is not None:
            return None
        key = f"{self._prefix}:conv:{held.decode()}"
        commands = (("HMGET", key, f"i:{call}", f"v:{call}"), ("HGETALL", f"{self._prefix}:out:{call}"))
        (fixed, variable), out = await self._ask_all(commands)
        return None if fixed is None else call_of(call, fixed, variable or b"", out.items())

    async def whereabouts(self, call: CallId) -> Whereabouts | None:
        """Who carries a call; None when it has ended or is not known."""
        held: bytes | None = await self._ask("GET", f"{self._prefix}:call:{call}")
        if held is None or final(held) is not None:
            return None
        conversation = held.decode()
        owner, fixed = await self._ask("HMGET", f"{self._prefix}:conv:{conversation}", "owner", f"i:{call}")
        return None if owner is None or fixed is None else Whereabouts(ConversationId(conversation), owner.decode())

    async def events(self, call: CallId) -> list[tuple[int, bytes]] | None:
        """(sequence, body) ascending, delivered or not, until the retention is over; None for a call not known."""
        out: dict[bytes, bytes] = await self._ask("HGETALL", f"{self._prefix}:out:{call}")
        return list(call_of(call, b"", b"", out.items()).events) if out else None

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
                        found.append((created_ms, CallId(call), final(held)))
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

    async def put_record(self, kind: Kind, name: str, record: bytes) -> bool:
        """Keep this user or trunk. True where there was one of that name before."""
        key = self._record_key(kind, name)
        return bool(await self._ask("EVAL", RECORD.text, 1, key, self._prefix, kind, name, record))

    async def delete_record(self, kind: Kind, name: str) -> bool:
        """True where there was one."""
        return await self.put_record(kind, name, b"")

    async def record(self, kind: Kind, name: str) -> bytes | None:
        """What was kept under that name."""
        record: bytes | None = await self._ask("GET", self._record_key(kind, name))
        return record

    async def changed_records(self, kind: Kind, since: int) -> Changes:
        """What has changed since this revision; all there are, for one that the store has not reached."""
        revision = int(await self._ask("GET", f"{self._prefix}:{kind}s-revision") or 0)
        if revision == since:
            return Changes(revision, {})
        low = f"({since}" if since < revision else "-inf"
        names = [name.decode() for name in await self._ask("ZRANGEBYSCORE", f"{self._prefix}:{kind}s", low, "+inf")]
        records = await self._ask("MGET", *[self._record_key(kind, name) for name in names]) if names else []
        return Changes(revision, dict(zip(names, records, strict=True)))

    def _record_key(self, kind: Kind, name: str) -> str:
        return f"{self._prefix}:{kind}:{name}"

    async def take_place(self, trunk: str, call: CallId, caps: Caps) -> bool:
        """A place for this call on a trunk, whose caps all nodes share; False: there is none. Asked again it says the same."""
        arguments = (self._prefix, trunk, call, caps.calls, caps.per_second, UNSTORED_MS, PLACES_AT_ONCE, PLACE_KEPT_MS)
        return bool(await self._ask("EVAL", PLACE.text, 1, f"{self._prefix}:trunk-calls:{trunk}", *arguments))

    async def leave_place(self, trunk: str, call: CallId) -> None:
        """Give it back. One that is never given back is found out once its call is over."""
        await self._ask("ZREM", f"{self._prefix}:trunk-calls:{trunk}", call)

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
        try:
            return facts | await self._discovery.facts()
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
