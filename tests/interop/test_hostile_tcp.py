"""Attackers over TCP amid calls over UDP: garbage, absurd lengths, single bytes, idle crowds, peers that never read.

Seeded. What `test_hostile` demands after each wave is demanded here too, and no call of the others may fail meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from tests.interop.test_hostile import Arena, desk
from tests.support.bad_messages import garbage, request
from tests.support.phone import Message, read_message, token
from tests.support.programs import resident_kib
from tests.support.scene import Scene
from tests.support.sipp import Sipp
from tests.support.waiting import until, until_awaited

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

SEED = 20261125
CALLS, RATE = 600, 40
IDLE = 500
IDLE_KIB = 20  # what one idle connection may cost; the kernel's part not counted


class Stranger:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def say(self, data: bytes) -> None:
        with suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self) -> Message:
        """One response without a body."""
        return read_message(await self.reader.readuntil(b"\r\n\r\n"))

    async def is_closed(self) -> bool:
        with suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass
        return True

    def close(self) -> None:
        self.writer.close()


class Front:
    """Where strangers connect, and what is so after each wave."""

    def __init__(self, arena: Arena, run: Sipp) -> None:
        self.arena = arena
        self.run = run
        self._target = ("127.0.0.1", arena.bridge.sip_port)

    async def stranger(self, *, buffer: int | None = None) -> Stranger:
        """`buffer`: how many bytes the kernel shall take for one that does not read."""
        made = socket.socket()
        made.setblocking(False)
        if buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await asyncio.get_running_loop().sock_connect(made, self._target)
        return Stranger(*await asyncio.open_connection(sock=made))

    async def connections(self) -> float:
        return (await self.arena.bridge.metrics())["bridge_sip_connections"]

    async def dropped(self, reason: str) -> float:
        return (await self.arena.dropped()).get(f'bridge_dropped_total{{reason="{reason}"}}', 0.0)

    async def is_well(self) -> None:
        async def none_left() -> bool:
            return await self.connections() == 0

        await until_awaited(none_left, "every stranger's connection is gone")
        await self.arena.is_well()


def message(method: str = "OPTIONS", **parts: object) -> bytes:
    """A request of a stranger's over TCP, each one new."""
    text = request(method, **parts).replace("SIP/2.0/UDP", "SIP/2.0/TCP").replace("\n", "\r\n")  # type: ignore[arg-type]
    for name, value in (
        ("port", "5060"),
        ("branch", f"z9hG4bK{token()}"),
        ("call_id", f"{token()}@x"),
        ("tag", token()),
    ):
        text = text.replace(f"{{{name}}}", value)
    return text.encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with Scene(tmp_path_factory.mktemp("hostile-tcp")) as scene:
        application = await scene.application(desk, dead_events=True)
        bridge = await scene.bridge(application, media_pairs=800)
        arena = Arena(application, bridge, await scene.caller(bridge))
        await arena.is_well()
        run = scene.sipp(bridge, calls=CALLS, rate=RATE, pause_ms=200)
        yield Front(arena, run)
        done = await run.done()
        assert (done.successful, done.failed) == (CALLS, 0), str(done)
        enough = arena.open_at_first + 16
        await until(lambda: arena.descriptors() <= enough, lambda: f"{arena.descriptors()} descriptors, not {enough}")


async def test_garbage(front: Front) -> None:
    before = await front.dropped("malformed")
    dice = random.Random(SEED)
    pieces = [*garbage(200, SEED), *(dice.randbytes(dice.randint(1, 100_000)) for _ in range(20)), b"\r\n" * 100_000]
    strangers = await asyncio.gather(*(front.stranger() for _ in pieces))
    await asyncio.gather(*(stranger.say(piece) for stranger, piece in zip(strangers, pieces, strict=True)))
    for stranger in strangers:
        stranger.close()
    await front.is_well()
    assert await front.dropped("malformed") > before + 50


async def test_absurd_lengths(front: Front) -> None:
    for length, status in (
        ("4294967296", 513),
        ("9" * 5000, 513),
        ("65536", 513),
        ("-1", 400),
        ("0x10", 400),
        ("0\r\nl: 5", 400),
        ("", 400),
    ):
        stranger = await front.stranger()
        await stranger.say(message("INVITE").replace(b"Content-Length: 0", b"Content-Length: " + length.encode()))
        assert (await stranger.answer()).status == status
        assert await stranger.is_closed()
        stranger.close()
    endless = await front.stranger()
    for _ in range(20):
        await endless.say(b"INVITE sip:a@b SIP/2.0\r\n" + b"X: y\r\n" * 10_000)
    assert await endless.is_closed()
    endless.close()
    await front.is_well()


async def test_ten_thousand_writes_of_one_byte(front: Front) -> None:
    data = message(more=f"X-Long: {'x' * 9800}\n")
    assert len(data) >= 10_000
    stranger = await front.stranger()
    for place in range(len(data)):
        await stranger.say(data[place : place + 1])
        if place % 100 == 99:
            await asyncio.sleep(0)
    assert (await stranger.answer()).status == 200
    stranger.close()
    await front.is_well()


async def test_five_hundred_connections_that_say_nothing(front: Front) -> None:
    before = resident_kib(front.arena.pid)
    strangers = [await front.stranger() for _ in range(IDLE)]

    async def all_there() -> bool:
        return await front.connections() == IDLE

    await until_awaited(all_there, "all are accepted")
    grown = resident_kib(front.arena.pid) - before
    print(f"{IDLE} idle connections: {grown} KiB")
    assert grown < IDLE * IDLE_KIB
    await front.arena.is_well()
    for stranger in strangers:
        stranger.close()
    await front.is_well()


async def test_who_never_reads_is_cut_off(front: Front) -> None:
    before = await front.dropped("connection_slow_reader")
    stranger = await front.stranger(buffer=4_096)

    async def cut_off() -> bool:
        return await front.dropped("connection_slow_reader") > before

    async with asyncio.TaskGroup() as group:
        asking = group.create_task(stranger.say(b"".join(message() for _ in range(50_000))))
        await until_awaited(cut_off, "the answers that it does not read have become too many")
        asking.cancel()
    stranger.close()
    await front.is_well()


async def test_pipelined_nonsense_leaves_the_others_their_turn(front: Front) -> None:
    """Well framed, and nothing but work: each of these is parsed."""
    strangers = [await front.stranger() for _ in range(10)]
    await asyncio.gather(*(each.say(b"x\r\nl:0\r\n\r\n" * 2000) for each in strangers))
    await asyncio.gather(*(each.say(message()) for each in strangers))
    for each in strangers:
        assert (await each.answer()).status == 200
        each.close()
    await front.is_well()


async def test_connections_that_come_and_go(front: Front) -> None:
    dice = random.Random(SEED)
    for _ in range(30):
        strangers = await asyncio.gather(*(front.stranger() for _ in range(20)))
        for each in strangers:
            data = message("INVITE")
            await each.say(data[: dice.randrange(len(data))] if dice.random() < 0.7 else data)
            if dice.random() < 0.5:
                each.writer.transport.abort()
            else:
                each.close()
    await front.is_well()
