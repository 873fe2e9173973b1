"""`sip-bridge call`: one call from the small soft phone, shown as a ladder while it happens.

Ctrl-C and SIGTERM hang up, politely. Knows nothing of the bridge: it calls whatever a SIP URI names.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from bridge.ambient import SystemClock, SystemTokens
from bridge.net.addresses import host_port, way_to
from bridge.phone.ladder import Ladder, summary
from bridge.phone.softphone import Phone, PhoneCall, Seen, callable_uri

NOT_ANSWERED = 1
PARTING_S = 3.0  # how long we wait for the answer to our CANCEL or BYE
_DEFAULT_PORT = 5060

Say = Callable[[str], None]


class Calling:
    """One call, from the INVITE to the line that sums it up."""

    def __init__(self, uri: str, *, user: str, host: str | None, say: Say) -> None:
        """`host` is our own address; None: the one that reaches the URI's. ValueError for what cannot be called."""
        self._target = callable_uri(uri)
        self._uri = uri
        self._user = user
        self._host = host
        self._say = say
        self._clock = SystemClock()
        self._told = asyncio.Event()

    async def run(self, *, seconds: float, timeout_s: float | None, offers: bool) -> int:
        """Call, talk for so many seconds once answered, hang up. The exit code: 0 if the call was answered."""
        name, port = self._target.host.strip("[]"), self._target.port or _DEFAULT_PORT
        ours, theirs = way_to(name, from_=self._host)
        ladder = Ladder((self._user, host_port(name, port)), write=self._say)
        began = self._clock.now()

        def show(seen: Seen) -> None:
            ends = (self._user, host_port(name, port))
            ladder.arrow(self._clock.now() - began, *(ends if seen.way == "out" else ends[::-1]), summary(seen.message))

        phone = Phone(self._user, clock=self._clock, tokens=SystemTokens(), observe=show)
        await phone.open(ours)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told.set)
        try:
            ladder.head()
            call = phone.call(self._uri, address=(theirs, port), offers=offers)
            if not await self._first(call.answered(), timeout_s):
                return await self._give_up(call, timeout_s)
            return await self._talk(phone, call, seconds)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            phone.close()

    async def _talk(self, phone: Phone, call: PhoneCall, seconds: float) -> int:
        response = await call.answered()
        if response is None:
            self._say("Nobody answered: does anybody listen there, on UDP?")
            return NOT_ANSWERED
        if response.status >= 300:
            contact = response.headers.get("Contact")
            further = f"; it names {contact}" if response.status < 400 and contact else ""
            self._say(f"Refused: {response.status} {response.reason}{further}")
            return NOT_ANSWERED
        await self._first(call.over(), seconds)
        call.hang_up()
        how = await call.over()
        await self._part(call)
        quality = phone.audio.quality
        self._say(
            f"{phone.audio.sent} RTP packets sent, {quality.packets_received} heard, {quality.packets_lost} lost, "
            f"jitter {quality.jitter_ms:.1f} ms; ended by {'us' if how == 'local' else 'them'}"
        )
        if call.disagreement is not None:
            self._say(f"There was no session: {call.disagreement}")
            return NOT_ANSWERED
        return 0

    async def _give_up(self, call: PhoneCall, timeout_s: float | None) -> int:
        call.hang_up()
        if call.is_heard:  # else there is nobody whom a CANCEL could reach (§9.1)
            await asyncio.wait([asyncio.ensure_future(call.over())], timeout=PARTING_S)
            await self._part(call)
        self._say("Given up." if self._told.is_set() else f"Given up: not answered within {timeout_s:g} s.")
        return NOT_ANSWERED

    async def _part(self, call: PhoneCall) -> None:
        parted, _ = await asyncio.wait([asyncio.ensure_future(call.parted())], timeout=PARTING_S)
        if not parted:
            self._say(f"Our BYE was not answered within {PARTING_S:g} s.")

    async def _first(self, awaited: Coroutine[Any, Any, object], seconds: float | None) -> bool:
        """Wait for that, for a signal, or for so many seconds: whether it was that."""
        wanted, told = asyncio.ensure_future(awaited), asyncio.ensure_future(self._told.wait())
        await asyncio.wait([wanted, told], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        came = wanted.done()
        for each in (wanted, told):
            each.cancel()
        return came


def place_call(
    uri: str, *, user: str, host: str | None, seconds: float, timeout_s: float | None, offers: bool, say: Say
) -> int:
    """Run it; returns the exit code. ValueError for a URI that cannot be called, StartError where no way leads there."""

    async def run() -> int:
        return await Calling(uri, user=user, host=host, say=say).run(
            seconds=seconds, timeout_s=timeout_s, offers=offers
        )

    return asyncio.run(run())
