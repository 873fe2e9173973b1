"""What a node says of itself with each renewal of its lease, and how another one reads it (survival §1, §2).

Two releases read each other here: a field that is not known is stepped over, one that is missing has the value it had
before there was such a field, and a node that says nothing legible is as good as one that nobody can reach.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_FIRST = (1,)  # versions of stored calls: what was read before nodes said what they read
_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


class Load(NamedTuple):
    """What a node carries, and how much it may."""

    calls: int  # that have not ended
    conversations: int  # with those whose events are not delivered
    capacity: int  # calls: those it has, and those that it has room for


class Announcement(NamedTuple):
    """One node, in its own words."""

    versions: tuple[int, ...]  # of stored calls, that it reads
    release: str
    nonce: str  # that its claims bear
    cluster: tuple[str, int] | None  # where others reach it; None: nowhere
    hint: str  # in the tags that it makes
    draining: bool
    starting: bool  # it does not listen yet, and has not taken up what its predecessors have left
    since: float  # seconds UTC: when it was started; 0: it has not said
    load: Load | None


def announcement(facts: bytes) -> Announcement:
    """What these say, as far as we understand them."""
    try:
        said = json.loads(facts)
    except ValueError:
        said = None
    if not isinstance(said, Mapping):
        said = {}
    return Announcement(
        versions=tuple(each for each in _listed(said.get("versions")) if isinstance(each, int)) or _FIRST,
        release=str(said.get("release", "")),
        nonce=str(said.get("nonce", "")),
        cluster=_address(said.get("cluster")),
        hint=str(said.get("hint", "")),
        draining=bool(said.get("draining", False)),
        starting=bool(said.get("starting", False)),
        since=_number(said.get("since")),
        load=_load(said.get("load")),
    )


def age(release: str) -> tuple[int, ...]:
    """What releases are compared by: the higher, the newer."""
    found = _NUMBERS.match(release)
    return tuple(int(each) for each in found[0].split(".")) if found else ()


def shared_version(ours: Sequence[int], others: Iterable[Announcement]) -> int | None:
    """The newest of these versions that everybody reads; None: there is none."""
    shared = set(ours)
    for each in others:
        shared &= set(each.versions)
    return max(shared, default=None)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _address(value: Any) -> tuple[str, int] | None:
    match value:
        case [str(host), int(port)]:
            return host, port
    return None


def _load(value: Any) -> Load | None:
    match value:
        case {"calls": int(calls), "conversations": int(conversations), "capacity": int(capacity)}:
            return Load(calls, conversations, capacity)
    return None
