"""Records as they stand in a Redis: from the fields of a hash to the engine's values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bridge.calls.facts import CallId, ConversationId
from bridge.engine.commit import Postponed, Remembered, StoredCall, StoredConversation
from bridge.engine.registrations import StoredStream, stream_of
from bridge.sip.registrar import AddressOfRecord


def final(held: bytes | None) -> bytes | None:
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
    call = call_of(stream_of(aor), b"", b"", _pairs(flat))
    return StoredStream(aor, call.events, call.cursors, call.postponed)


def call_of(call: str, fixed: bytes, variable: bytes, out: Iterable[tuple[bytes, bytes]]) -> StoredCall:
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


def conversation_of(name: str, flat: list[bytes], *outs: list[Any]) -> StoredConversation:
    fields = dict(_pairs(flat))
    calls = []
    for call, out in outs:
        variable = fields.get(b"v:" + call, b"")
        calls.append(call_of(call.decode(), fields[b"i:" + call], variable, _pairs(out)))
    version, _, giver = fields.get(b"handed", b"").decode().partition(" ")
    return StoredConversation(
        conversation=ConversationId(name),
        epoch=int(fields[b"epoch"]),
        nonce=fields[b"nonce"].decode(),
        version=int(fields[b"version"]),
        head=fields[b"head"],
        calls=tuple(sorted(calls, key=lambda stored: stored.call)),
        handed_by=giver if version == fields[b"version"].decode() else "",
    )
