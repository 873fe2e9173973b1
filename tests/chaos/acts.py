"""What the chaos tests do again and again."""

from __future__ import annotations

import asyncio
import time

from tests.support.bad_messages import request
from tests.support.caller import Caller, OutgoingCall
from tests.support.phone import token
from tests.support.waiting import PATIENCE_S


async def hold(caller: Caller, count: int, user: str = "100") -> list[OutgoingCall]:
    """So many answered calls."""
    calls = [caller.call(user) for _ in range(count)]
    for call, answer in zip(calls, await asyncio.gather(*(call.invite() for call in calls)), strict=True):
        assert answer.status == 200, f"{call.call_id}: {answer}"
    return calls


async def hang_up_all(calls: list[OutgoingCall]) -> list[int]:
    """BYE on each; the statuses of the answers."""
    return [answer.status for answer in await asyncio.gather(*(call.bye() for call in calls))]


async def answers_again(caller: Caller) -> float:
    """Ask OPTIONS every 20 ms until one is answered; when that was."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        names = {"port": caller.port, "branch": f"z9hG4bK{token()}", "call_id": token(), "tag": token()}
        caller.send(request("OPTIONS").replace("\n", "\r\n").format(**names))
        await asyncio.sleep(0.02)
        if any(each.status == 200 and each.method == "OPTIONS" for each in caller.strays):
            return time.monotonic()
    raise AssertionError(f"nobody answers on {caller.target} within {PATIENCE_S:g} s")
