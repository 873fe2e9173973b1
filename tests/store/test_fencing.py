"""survival.md §1: every stored state × every write → what comes of it. The same for every store."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bridge.engine.commit import Commit, Release, StoredCall
from bridge.store import ConversationRecord, Store
from tests.store.conftest import Place
from tests.store.writes import CALL, CONVERSATION, OWNER, commit

HEIR = "n2:bbb"

CREATE = commit(1)
NEXT = commit(3, events=(9,))
WHOLE = commit(3, epoch=2, whole=True, events=(9,))


def _by(epoch: int, nonce: str, *, ends: bool = False) -> list[Commit | Release]:
    """Version 2, written by somebody else, who came at `epoch` with `nonce`."""
    return [
        commit(1, epoch=epoch, nonce=nonce, owner=HEIR, whole=True),
        commit(2, epoch=epoch, nonce=nonce, owner=HEIR, ends=ends),
    ]


STATES: dict[str, list[Commit | Release]] = {
    "nothing": [],
    "ours, one behind": [commit(1)],
    "ours, as expected": [commit(1), commit(2)],
    "ours, written already": [commit(1), commit(2), commit(3)],
    "ours, written long ago": [commit(1), commit(2), commit(3), commit(4)],
    "ours, ended": [commit(1), commit(2, ends=True)],
    "ours, released": [commit(1), commit(2, ends=True), Release(CONVERSATION, (CALL,), OWNER)],
    "another's, same epoch, lower nonce": _by(1, "a"),
    "another's, same epoch, higher nonce": _by(1, "z"),
    "another's, next epoch, lower nonce": _by(2, "a"),
    "another's, next epoch, higher nonce": _by(2, "z"),
    "another's, far ahead": _by(3, "a"),
    "another's, next epoch, ended": _by(2, "a", ends=True),
    "another's, next epoch, released": [*_by(2, "a", ends=True), Release(CONVERSATION, (CALL,), HEIR)],
    "the call is in another conversation": [commit(1, owner=HEIR, conversation="conv_b")],
    "the call has ended in another conversation": [
        commit(1, owner=HEIR, conversation="conv_b"),
        commit(2, owner=HEIR, conversation="conv_b", ends=True),
    ],
}

# `already`: answered like `applied`, and nothing has changed.
TABLE: list[tuple[str, str, str, str]] = [
    #                                        create     version 3  whole, next epoch
    ("nothing", "applied", "stale", "applied"),
    ("ours, one behind", "already", "stale", "applied"),
    ("ours, as expected", "already", "applied", "applied"),
    ("ours, written already", "already", "already", "applied"),
    ("ours, written long ago", "already", "already", "applied"),
    ("ours, ended", "already", "applied", "applied"),
    ("ours, released", "already", "lost", "lost"),
    ("another's, same epoch, lower nonce", "exists", "stale", "applied"),
    ("another's, same epoch, higher nonce", "exists", "lost", "applied"),
    ("another's, next epoch, lower nonce", "lost", "lost", "applied"),
    ("another's, next epoch, higher nonce", "lost", "lost", "lost"),
    ("another's, far ahead", "lost", "lost", "lost"),
    ("another's, next epoch, ended", "lost", "lost", "lost"),
    ("another's, next epoch, released", "lost", "lost", "lost"),
    ("the call is in another conversation", "exists", "stale", "lost"),
    ("the call has ended in another conversation", "exists", "lost", "lost"),
]
CASES = [
    pytest.param(state, write, outcome, id=f"{state} - {name}")
    for state, *outcomes in TABLE
    for name, write, outcome in zip(("create", "next", "whole"), (CREATE, NEXT, WHOLE), outcomes, strict=True)
]


def test_the_table_is_total() -> None:
    assert [row[0] for row in TABLE] == list(STATES)


@dataclass(frozen=True)
class Seen:
    """Everything a reader can see of the call and its conversation."""

    conversation: ConversationRecord | None
    alive: StoredCall | None
    final: bytes | None
    events: list[tuple[int, bytes]] | None


async def look(store: Store) -> Seen:
    return Seen(
        await store.conversation(CONVERSATION),
        await store.stored_call(CALL),
        await store.final_record(CALL),
        await store.events(CALL),
    )


@pytest.mark.parametrize(("state", "write", "outcome"), CASES)
async def test_fencing(place: Place, state: str, write: Commit, outcome: str) -> None:
    other = await place.node()
    for made in STATES[state]:
        if isinstance(made, Release):
            other.store.release(made)
        else:
            assert await other.write(made) == "applied"
    await other.store.close()
    node = await place.node()
    before = await look(node.store)

    answer = await node.write(write)

    assert answer == ("applied" if outcome == "already" else outcome)
    after = await look(node.store)
    if outcome == "applied":
        assert after.conversation == (write.head, (CALL,), None)
        assert after.events == ([(event.sequence, event.body) for event in write.events] or None)
        assert after.final == before.final  # what had ended stays ended
        assert (after.alive is None) == (before.final is not None)
    else:
        assert after == before
