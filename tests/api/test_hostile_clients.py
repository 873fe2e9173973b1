"""Clients that break HTTP, or off: they are answered or dropped, and cannot fill the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from bridge.api.app import make_app, make_runner
from bridge.telemetry.metrics import Metrics
from tests.api.fakes import FakeService, call_id

POST = f"POST /v1/calls/{call_id(0)}/actions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()


@pytest.fixture
async def port(service: FakeService) -> AsyncIterator[int]:
    app = make_app(
        control=service,
        reader=service,
        registrations=service,
        trunks=service,
        nodes=service,
        health=service,
        metrics=Metrics(),
    )
    runner = make_runner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def said(port: int, request: bytes) -> bytes:
    """All that comes back, and the connection is closed by the other end or by us after a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(4096), 1.0)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"400"),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", b"400"),
        (POST + b"Content-Encoding: gzip\r\nContent-Length: 100\r\n\r\n" + b"\x1f\x8b" * 50, b"415"),
    ],
    ids=["no HTTP", "another version", "a header too long", "two lengths", "gzip that is none"],
)
async def test_what_breaks_http_is_answered_without_a_line(
    port: int, request_: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert status in (await said(port, request_)).split(b"\r\n")[0]
    await asyncio.sleep(0.02)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_who_goes_away_in_mid_body_is_no_defect_of_ours(port: int) -> None:
    with capture_logs() as lines:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"Content-Length: 1000\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.sleep(0.05)
    assert not [line for line in lines if line["log_level"] in ("warning", "error")]
