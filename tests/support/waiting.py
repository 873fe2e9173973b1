"""Waiting for something to be so, instead of for a time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

PATIENCE_S = 30.0  # for what takes a moment on an idle machine: these tests run on busy ones
POLL_S = 0.01

T = TypeVar("T")


async def until(
    condition: Callable[[], T], what: str | Callable[[], str], *, within_s: float = PATIENCE_S, poll_s: float = POLL_S
) -> T:
    """What `condition` returns once that is true. Fails the test, saying `what`, when it never is."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(poll_s)
    return found


async def until_awaited(
    condition: Callable[[], Awaitable[T]], what: str, *, within_s: float = PATIENCE_S, poll_s: float = 0.02
) -> T:
    """The same for a condition that has to be asked for over a network."""
    deadline = time.monotonic() + within_s
    while not (found := await condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(poll_s)
    return found
