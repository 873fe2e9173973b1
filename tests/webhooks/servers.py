"""Real servers on loopback: aiohttp applications, and raw ones that do what no library would."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from bridge.ambient import SystemClock
from bridge.outbox.queue import Delivery
from bridge.outbox.schedule import Outcome
from bridge.webhooks.sender import Sender
from bridge.webhooks.signing import new_secret

LOCALHOST = Path(__file__).with_name("localhost.pem")
SECRET = new_secret()
BODY = b'{"id": "evt_1", "type": "call.incoming"}'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def delivery(
    url: str, *, number: int = 1, timeout_s: float = 5.0, decision: bool = True, body: bytes = BODY
) -> Delivery:
    return Delivery(number, "app", url, "evt_1", "call.incoming", "call_1", 1, body, 1, timeout_s, decision)


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(LOCALHOST)
    return context


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(LOCALHOST))


class Sending:
    """A sender, and the outcomes it gave."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, idle_s: float = 4.0) -> None:
        self.outcomes: list[tuple[Delivery, Outcome]] = []
        self.sender = Sender({"app": [SECRET]}, clock=SystemClock(), give=self.given, tls=tls, idle_s=idle_s)
        self._changed = asyncio.Event()

    def given(self, delivery: Delivery, outcome: Outcome) -> None:
        self.outcomes.append((delivery, outcome))
        self._changed.set()

    async def until(self, count: int) -> list[Outcome]:
        while len(self.outcomes) < count:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 10.0)
        return [outcome for _, outcome in self.outcomes]

    async def attempt(self, url: str, *, timeout_s: float = 5.0, decision: bool = True, body: bytes = BODY) -> Outcome:
        """One attempt from beginning to end."""
        count = len(self.outcomes) + 1
        self.sender.send(delivery(url, number=count, timeout_s=timeout_s, decision=decision, body=body))
        return (await self.until(count))[-1]


@asynccontextmanager
async def sending(*, tls: ssl.SSLContext | None = None, idle_s: float = 4.0) -> AsyncIterator[Sending]:
    it = Sending(tls=tls, idle_s=idle_s)
    await it.sender.start()
    try:
        yield it
    finally:
        await it.sender.close()


@asynccontextmanager
async def application(
    handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[str]:
    """An aiohttp application that handles POST /calls; its URL."""
    app = web.Application()
    app.router.add_post("/calls", handler)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.0)
    await runner.setup()
    listener = socket.create_server((host, 0))
    await web.SockSite(runner, listener, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://{host}:{listener.getsockname()[1]}/calls"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw(*scripts: Raw, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server whose n-th connection runs the n-th script, later ones the last; its URL, and the requests it saw begin."""
    begun: list[bytes] = []
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        script = scripts[min(count, len(scripts) - 1)]
        count += 1
        begun.append(b"")
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went first, which some tests want
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/calls", begun
    finally:
        server.close()


async def take_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(length)


def says(*pieces: bytes, delay: float = 0.0) -> Raw:
    """A script that takes one request, writes these pieces and closes."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(delay)

    return script


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A script that takes whatever comes and says nothing until the client goes."""
    del writer
    while await reader.read(65_536):
        pass


def refused_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
