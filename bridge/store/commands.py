"""Writes of the engine as commands that call their scripts: what stands at the head of each `.lua` file, filled in.

Refuses to know how they travel, and what is inside the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from bridge.engine.commit import Commit
from bridge.engine.registrations import WriteRegistration
from bridge.store import REMEMBERED_S

REMEMBERED_MS = int(REMEMBERED_S * 1000)

Words: TypeAlias = list[str | bytes | int]


def commit_command(
    script: tuple[str, str], prefix: str, commit: Commit, riding: Sequence[str | int], retention_ms: int
) -> Words:
    """That calls commit.lua, `script` being how. `riding`: flat acknowledgements of other calls that go along."""
    node_id, _, incarnation = commit.owner.rpartition(":")
    calls, events, acks, endings, claim = commit.calls, commit.events, commit.acks, commit.endings, commit.claim
    command: Words = [
        *script,
        1,
        f"{prefix}:conv:{commit.conversation}",
        prefix,
        commit.conversation,
        commit.epoch,
        commit.nonce,
        commit.version,
        node_id,
        incarnation,
        1 if commit.whole else 0,
        retention_ms,
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
    return command


def registration_arguments(prefix: str, write: WriteRegistration) -> Words:
    """Of register.lua, behind its key."""
    node_id, _, incarnation = write.owner.rpartition(":")
    command: Words = [
        prefix,
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
    return command


def flat_acks(acks: Mapping[str, Mapping[str, int]]) -> list[str | int]:
    """Per call and endpoint: call, endpoint, sequence."""
    return [word for call, cursors in acks.items() for row in cursors.items() for word in (call, *row)]
