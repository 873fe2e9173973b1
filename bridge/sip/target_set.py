"""The target set of a request to be proxied, and the order in which it is tried: RFC 3261 §16.5 and §16.6.

Where targets come from (bindings, an application, the Request-URI) and what they answer is for others to know.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from itertools import groupby
from typing import Any, NamedTuple


class Target(NamedTuple):
    """One place the request goes to."""

    uri: str  # the Request-URI
    q: float = 1.0  # preference, 0 to 1
    path: tuple[str, ...] = ()  # Route values on the way there, next hop first (RFC 3327)
    way: int = 0  # keeps apart who has registered one and the same URI by several flows; whoever made it knows them

    def to_data(self) -> dict[str, Any]:
        """Plain data; `Target.from_data` is the inverse."""
        return {"uri": self.uri, "q": self.q, "path": list(self.path)} | ({"way": self.way} if self.way else {})

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Target:
        return cls(data["uri"], data["q"], tuple(data["path"]), data.get("way", 0))


class Fork(StrEnum):
    """The order in which targets are tried."""

    PARALLEL = "parallel"  # all at once
    SERIAL = "serial"  # one after the other, the highest q first
    BY_PREFERENCE = "by_preference"  # those of one q at once, the highest q first (§16.6)


def groups(targets: Iterable[Target], fork: Fork) -> list[list[Target]]:
    """The target set (§16.5: nothing twice) in the order it is tried: each group at once, one group after the other."""
    first: dict[tuple[str, int], Target] = {}
    for each in targets:
        first.setdefault((each.uri, each.way), each)
    unique = list(first.values())
    if fork is Fork.PARALLEL:
        return [unique] if unique else []
    unique.sort(key=lambda each: -each.q)  # stable: those alike stay in their order
    if fork is Fork.SERIAL:
        return [[each] for each in unique]
    return [list(alike) for _, alike in groupby(unique, key=lambda each: each.q)]
