"""`sip-bridge call` and `sip-bridge phone`: the small soft phone at a terminal, shown as a ladder while things happen.

One makes a call, the other one waits to be called, registered if it is told where. Ctrl-C and SIGTERM hang up and
unregister, politely. Knows nothing of the bridge: it talks to whatever a SIP URI names.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bridge.ambient import SystemClock, SystemTokens
from bridge.net.addresses import host_port, way_to
from bridge.phone.audio import Audio
from bridge.phone.incoming import IncomingCall
from bridge.phone.ladder import Ladder, summary
from bridge.phone.outgoing import OutgoingCall
from bridge.phone.registration import Registration
from bridge.phone.softphone import Phone, Seen, callable_uri
from bridge.sip.message import Response

NOT_ANSWERED = 1
NOT_REGISTERED = 1
PARTING_S = 3.0  # how long we wait for the answer to our CANCEL, BYE or last REGISTER
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
        self._told = asyncio.Event()  # to end, by a signal

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
        try:
            with _signals(self._told):
                ladder.head()
                call = phone.call(self._uri, address=(theirs, port), offers=offers)
                if not await self._first(call.answered(), timeout_s):
                    return await self._give_up(call, timeout_s)
                return await self._talk(phone, call, seconds)
        finally:
            phone.close()

    async def _talk(self, phone: Phone, call: OutgoingCall, seconds: float) -> int:
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
        self._say(_summed_up(phone.audio, how))
        if call.disagreement is not None:
            self._say(f"There was no session: {call.disagreement}")
            return NOT_ANSWERED
        return 0

    async def _give_up(self, call: OutgoingCall, timeout_s: float | None) -> int:
        call.hang_up()
        if call.is_heard:  # else there is nobody whom a CANCEL could reach (§9.1)
            await asyncio.wait([asyncio.ensure_future(call.over())], timeout=PARTING_S)
            await self._part(call)
        self._say("Given up." if self._told.is_set() else f"Given up: not answered within {timeout_s:g} s.")
        return NOT_ANSWERED

    async def _part(self, call: OutgoingCall) -> None:
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


@dataclass(frozen=True, slots=True)
class Manner:
    """How a phone behaves that is called."""

    user: str
    host: str | None = None  # our own address; None: the one that reaches the registrar, or this host's loopback
    port: int = 0  # 0: a free one
    answer_after_s: float = 1.0  # how long it rings
    reject: int | None = None  # with this status instead


@dataclass(frozen=True, slots=True)
class Account:
    """Where a phone registers, and as whom. The password is shown to nobody."""

    uri: str
    username: str | None
    password: str

    def __repr__(self) -> str:
        return f"Account({self.uri!r})"


class Waiting:
    """A phone that is called, until somebody ends it."""

    def __init__(self, manner: Manner, account: Account | None, *, say: Say) -> None:
        """ValueError for what cannot be registered."""
        self._manner = manner
        self._account = account
        self._registrar = callable_uri(account.uri) if account is not None else None
        self._say = say
        self._clock = SystemClock()
        self._began = self._clock.now()
        self._told = asyncio.Event()
        self._refusal: str | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._phone: Phone | None = None

    async def run(self) -> int:
        """Register, answer whatever comes, and end when told to. The exit code: 0 if it could be called."""
        manner, name = self._manner, self._registrar.host.strip("[]") if self._registrar is not None else "127.0.0.1"
        ours, theirs = way_to(name, from_=manner.host)
        far = "far end" if self._registrar is None else host_port(name, self._registrar.port or _DEFAULT_PORT)
        ladder = Ladder((manner.user, far), write=self._say)

        def show(seen: Seen) -> None:
            ends = (manner.user, far)
            ladder.arrow(
                self._clock.now() - self._began, *(ends if seen.way == "out" else ends[::-1]), summary(seen.message)
            )

        phone = self._phone = Phone(
            manner.user, clock=self._clock, tokens=SystemTokens(), observe=show, called=self._called
        )
        await phone.open(ours, manner.port)
        try:
            with _signals(self._told):
                self._say(f"Call {phone.contact.strip('<>')}. Ctrl-C ends it.\n")
                self._began = self._clock.now()
                ladder.head()
                registration = self._register(phone, theirs)
                await self._told.wait()
                await self._part(phone, registration)
        finally:
            for task in self._calls:
                task.cancel()
            phone.close()
        if self._refusal is not None:
            self._say(self._refusal)
            return NOT_REGISTERED
        return 0

    def _register(self, phone: Phone, address: str) -> Registration | None:
        account, registrar = self._account, self._registrar
        if account is None or registrar is None:
            return None
        return phone.register(
            account.uri,
            username=account.username,
            password=account.password,
            address=(address, registrar.port or _DEFAULT_PORT),
            told=self._registered,
        )

    def _registered(self, response: Response | None) -> None:
        """A refusal ends it; silence does not, for the registrar may come back."""
        if response is None:
            self._say("Nobody has answered the REGISTER: does anybody listen there, on UDP? It is tried again.")
        elif 400 <= response.status < 500 and not self._told.is_set():
            self._refusal = f"Not registered: {response.status} {response.reason}"
            self._told.set()

    def _called(self, call: IncomingCall) -> None:
        task = asyncio.create_task(self._take(call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _take(self, call: IncomingCall) -> None:
        manner, phone = self._manner, self._phone
        if manner.reject is not None:
            call.reject(manner.reject)
            return
        call.ring()
        await asyncio.wait([asyncio.ensure_future(call.over())], timeout=manner.answer_after_s)
        call.answer()
        how = await call.over()
        if call.negotiated is not None and phone is not None:
            self._say(_summed_up(phone.audio, how))
        elif call.disagreement is not None:
            self._say(f"There was no session: {call.disagreement}")

    async def _part(self, phone: Phone, registration: Registration | None) -> None:
        call = phone.call_now
        if call is not None and not call.is_over:
            call.hang_up()
            await asyncio.wait([asyncio.ensure_future(call.parted())], timeout=PARTING_S)
        if registration is not None and self._refusal is None:
            await asyncio.wait([asyncio.ensure_future(registration.end())], timeout=PARTING_S)


def wait_for_calls(manner: Manner, account: Account | None, *, say: Say) -> int:
    """Run it; returns the exit code. ValueError for a URI that cannot be registered, StartError where no way leads there."""

    async def run() -> int:
        return await Waiting(manner, account, say=say).run()

    return asyncio.run(run())


@contextmanager
def _signals(told: asyncio.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM set that, instead of ending the process."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _summed_up(audio: Audio, how: str) -> str:
    quality = audio.quality
    return (
        f"{audio.sent} RTP packets sent, {quality.packets_received} heard, {quality.packets_lost} lost, "
        f"jitter {quality.jitter_ms:.1f} ms; ended by {'us' if how == 'local' else 'them'}"
    )
