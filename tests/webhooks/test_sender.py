"""The sender against real servers: good ones, and down, refusing, hanging, slow, redirecting, lying, closing ones."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Coroutine

import pytest
import uvloop
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from bridge.ambient import SystemClock
from bridge.errors import ConfigurationError
from bridge.outbox.schedule import Outcome
from bridge.webhooks.answer import BODY_MAX
from bridge.webhooks.sender import Sender
from tests.webhooks.servers import (
    BODY,
    SECRET,
    application,
    delivery,
    hangs,
    raw,
    refused_port,
    says,
    sending,
    server_tls,
    take_request,
    trusting,
)

PARK = b'{"actions": [{"action": "park"}]}'
KEPT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def park(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=PARK, content_type="application/json")


def told(outcome: Outcome) -> tuple[int | None, str | None]:
    return outcome.status, outcome.error


async def test_a_webhook_is_signed_and_its_reply_comes_back() -> None:
    seen: list[tuple[web.Request, bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request, await request.read()))
        return await park(request)

    async with application(handler) as url, sending() as it:
        outcome = await it.attempt(url)
    assert (outcome.status, outcome.error, outcome.body) == (200, None, PARK)
    assert outcome.content_type == "application/json"
    request, body = seen[0]
    assert body == BODY
    Webhook(SECRET).verify(body, {name.lower(): value for name, value in request.headers.items()})
    assert request.headers["webhook-id"] == "evt_1"
    assert request.content_type == "application/json"
    assert request.headers["User-Agent"].startswith("sip-bridge/")
    assert request.headers["Host"] == url.split("/")[2]
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", request.headers["traceparent"])


async def test_the_attempts_of_a_call_are_spans_of_one_trace() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers["traceparent"])
        return await park(request)

    async with application(handler) as url, sending() as it:
        await it.attempt(url)
        await it.attempt(url)
    (_, trace, span, _), (_, same_trace, other_span, _) = (value.split("-") for value in seen)
    assert trace == same_trace
    assert span != other_span


async def test_connections_are_kept_and_used_again() -> None:
    peers: list[object] = []

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        return await park(request)

    async with application(handler) as url, sending() as it:
        for _ in range(3):
            await it.attempt(url)
        assert len(set(peers)) == 1


async def test_an_idle_connection_is_closed_before_the_server_does() -> None:
    closed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        writer.write(KEPT)
        assert await reader.read() == b""
        closed.set()

    async with raw(script) as (url, _), sending(idle_s=0.05) as it:
        await it.attempt(url)
        await asyncio.wait_for(closed.wait(), 5.0)


async def test_attempts_run_side_by_side() -> None:
    both = asyncio.Barrier(2)

    async def handler(request: web.Request) -> web.Response:
        await both.wait()
        return await park(request)

    async with application(handler) as url, sending() as it:
        it.sender.send(delivery(url, number=1))
        it.sender.send(delivery(url, number=2))
        assert [told(outcome) for outcome in await it.until(2)] == [(200, None)] * 2


async def test_the_reply_to_a_notification_is_not_kept() -> None:
    async with application(park) as url, sending() as it:
        assert (await it.attempt(url, decision=False)).body == b""


@pytest.mark.parametrize("status", [204, 400, 401, 404, 410, 500, 503])
async def test_a_status_is_an_outcome(status: int) -> None:
    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status)

    async with application(handler) as url, sending() as it:
        assert told(await it.attempt(url)) == (status, None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        location = "https://alice:s3cret@elsewhere.test/calls"
        return web.Response(status=status, headers={"Location": location})

    async with application(handler) as url, sending() as it:
        outcome = await it.attempt(url)
    assert told(outcome) == (status, None)
    assert outcome.detail == "https://***@elsewhere.test/calls"
    assert seen == ["/calls"]


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("120", 120.0, 120.0),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 1e8, 1e10),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0, 0.0),
        ("99999999999999999999", 1e8, 1e10),
    ],
)
async def test_retry_after_is_told_in_seconds(value: str, low: float, high: float) -> None:
    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=503, headers={"Retry-After": value})

    async with application(handler) as url, sending() as it:
        outcome = await it.attempt(url)
    assert outcome.retry_after is not None
    assert low <= outcome.retry_after <= high


@pytest.mark.parametrize("value", ["soon", "-5", "1.5"])
async def test_a_retry_after_that_says_nothing_is_none(value: str) -> None:
    answer = b"HTTP/1.1 503 x\r\nRetry-After: %b\r\nContent-Length: 0\r\n\r\n" % value.encode()
    async with raw(says(answer)) as (url, _), sending() as it:
        assert (await it.attempt(url)).retry_after is None


async def test_nobody_listens() -> None:
    async with sending() as it:
        outcome = await it.attempt(f"http://127.0.0.1:{refused_port()}/calls")
    assert told(outcome) == (None, "refused")


@pytest.mark.parametrize("host", ["nobody.invalid", "a" * 64 + ".test", "a..b"])
async def test_a_name_without_an_address(host: str) -> None:
    async with sending() as it:
        assert told(await it.attempt(f"http://{host}/calls")) in {(None, "dns"), (None, "invalid_url")}


async def test_a_server_that_hangs_costs_the_timeout() -> None:
    async with raw(hangs) as (url, _), sending() as it:
        outcome = await it.attempt(url, timeout_s=0.1)
    assert (*told(outcome), outcome.detail) == (None, "timeout", "connected, no answer")
    assert outcome.took_s >= 0.09


async def test_a_server_that_does_not_let_us_in_costs_the_timeout() -> None:
    async with raw(hangs) as (url, _), sending(tls=trusting()) as it:
        outcome = await it.attempt(url.replace("http:", "https:"), timeout_s=0.1)
    assert (*told(outcome), outcome.detail) == (None, "timeout", "while connecting")


async def test_an_answer_that_trickles_costs_the_timeout() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with raw(says(head, *[b"x"] * 1000, delay=0.01)) as (url, _), sending() as it:
        outcome = await it.attempt(url, timeout_s=0.1)
    assert (*told(outcome), outcome.detail) == (200, "timeout", "the answer had begun")


async def test_a_slow_answer_is_waited_for() -> None:
    pieces = (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n\r\n", b"{", b"}")
    async with raw(says(*pieces, delay=0.02)) as (url, _), sending() as it:
        outcome = await it.attempt(url)
    assert (*told(outcome), outcome.body) == (200, None, b"{}")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}"])
async def test_closing_early_is_an_outcome(answer: bytes) -> None:
    async with raw(says(answer)) as (url, begun), sending() as it:
        outcome = await it.attempt(url)
        assert outcome.error == "closed"
        assert outcome.status == (200 if b"\r\n\r\n" in answer else None)
        assert len(begun) == 1  # a fresh connection: no second try


async def test_a_reset_is_an_outcome() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    async with raw(script) as (url, _), sending() as it:
        assert told(await it.attempt(url, body=b"x" * 60_000)) == (None, "closed")


async def test_closing_at_once_is_an_outcome() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader, writer

    async with raw(script) as (url, _), sending() as it:
        assert told(await it.attempt(url)) == (None, "closed")


async def test_a_kept_connection_that_the_server_closed_is_replaced_without_a_failure() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        writer.write(KEPT)
        await take_request(reader)  # and close instead of answering: the race of RFC 9112 §9.3.1

    async with raw(script, says(KEPT)) as (url, begun), sending() as it:
        assert told(await it.attempt(url)) == (200, None)
        assert told(await it.attempt(url)) == (200, None)
        assert len(begun) == 2


async def test_the_replacement_happens_once() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        writer.write(KEPT)
        await take_request(reader)

    async with raw(script, says(b"")) as (url, begun), sending() as it:
        await it.attempt(url)
        assert told(await it.attempt(url)) == (None, "closed")
        assert len(begun) == 2


async def test_an_answer_that_began_on_a_kept_connection_is_not_asked_for_again() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        writer.write(KEPT)
        await take_request(reader)
        writer.write(b"HTTP/1.1 2")

    async with raw(script, says(KEPT)) as (url, begun), sending() as it:
        await it.attempt(url)
        assert told(await it.attempt(url)) == (None, "closed")
        assert len(begun) == 1


async def test_what_comes_unasked_answers_no_request() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        writer.write(KEPT)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        assert await reader.read() == b""  # the client goes at once
        gone.set()

    gone = asyncio.Event()
    async with raw(script, says(KEPT)) as (url, begun), sending() as it:
        await it.attempt(url)
        await asyncio.wait_for(gone.wait(), 5.0)
        assert told(await it.attempt(url)) == (200, None)
        assert len(begun) == 2


async def test_a_lie_about_the_length_ends_the_connection() -> None:
    lie = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 500 smuggled\r\nContent-Length: 0\r\n\r\n"
    async with raw(says(lie), says(KEPT)) as (url, begun), sending() as it:
        first = await it.attempt(url)
        assert (*told(first), first.body) == (200, None, b"{}")
        assert told(await it.attempt(url)) == (200, None)
        assert len(begun) == 2


@pytest.mark.parametrize("length", [True, False])
async def test_an_oversized_answer_is_cut_off(length: bool) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if length:
            response.content_length = 10 * BODY_MAX
        await response.prepare(request)
        for _ in range(160):
            await response.write(b"x" * 4096)
        return response

    async with application(handler) as url, sending() as it:
        outcome = await it.attempt(url)
    assert told(outcome) == (200, "too_large")
    assert len(outcome.body) <= BODY_MAX


async def test_another_protocol_is_an_outcome() -> None:
    async with raw(says(b"220 mail.test ESMTP\r\n")) as (url, _), sending() as it:
        outcome = await it.attempt(url)
    assert told(outcome) == (None, "protocol")


async def test_tls_with_a_trusted_certificate() -> None:
    async with application(park, tls=server_tls()) as url, sending(tls=trusting()) as it:
        for _ in range(2):
            assert told(await it.attempt(url)) == (200, None)


async def test_tls_with_a_certificate_nobody_trusts() -> None:
    async with application(park, tls=server_tls()) as url, sending() as it:
        outcome = await it.attempt(url)
    assert told(outcome) == (None, "tls")
    assert "self-signed" in outcome.detail.replace("self signed", "self-signed")


async def test_tls_with_a_certificate_for_another_name() -> None:
    async with application(park, tls=server_tls(), host="127.0.0.2") as url, sending(tls=trusting()) as it:
        outcome = await it.attempt(url)
    assert told(outcome) == (None, "tls")
    assert "127.0.0.2" in outcome.detail


async def test_https_to_a_server_that_speaks_plain_http() -> None:
    async with application(park) as url, sending(tls=trusting()) as it:
        assert told(await it.attempt(url.replace("http:", "https:"))) == (None, "tls")


async def test_credentials_in_the_url_are_sent_as_a_header() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return await park(request)

    async with application(handler) as url, sending() as it:
        await it.attempt(url.replace("//", "//alice:s3cret@"))
    assert seen == ["Basic YWxpY2U6czNjcmV0"]


async def test_a_url_nobody_can_post_to_is_an_outcome() -> None:
    async with sending() as it:
        outcome = await it.attempt("ftp://alice:s3cret@127.0.0.1/calls")
    assert told(outcome) == (None, "invalid_url")
    assert "s3cret" not in outcome.detail


async def test_nothing_is_sent_unsigned() -> None:
    async with application(park) as url, sending() as it:
        it.sender.send(delivery(url)._replace(endpoint="unknown"))
        assert told((await it.until(1))[0]) == (None, "unsigned")


async def test_an_outcome_never_comes_while_the_attempt_is_being_started() -> None:
    async with sending() as it:
        it.sender.send(delivery("ftp://127.0.0.1/"))
        assert it.outcomes == []
        await it.until(1)


async def test_closing_breaks_off_what_is_under_way_and_tells_each_once() -> None:
    async with raw(hangs) as (url, begun), sending() as it:
        for number in range(3):
            it.sender.send(delivery(url, number=number))
        while len(begun) < 3:
            await asyncio.sleep(0)
        it.sender.send(delivery(url, number=3))  # still connecting
        await it.sender.close()
        assert [told(outcome) for outcome in await it.until(4)] == [(None, "canceled")] * 4
        it.sender.send(delivery(url, number=4))
        assert told((await it.until(5))[-1]) == (None, "canceled")


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    async with application(park) as good, raw(hangs) as (hanging, _), raw(says(b"")) as (closing, _), sending() as it:
        for number, url in enumerate([good, hanging, closing, f"http://127.0.0.1:{refused_port()}/"] * 3):
            it.sender.send(delivery(url, number=number, timeout_s=0.2))
        await it.until(12)
        assert sorted(given.delivery for given, _ in it.outcomes) == list(range(12))
        await it.sender.close()
        assert not it.sender._attempts
        assert not it.sender._dialing
        assert not it.sender._connections._open
    while asyncio.all_tasks() - before:
        await asyncio.sleep(0)


async def test_a_malformed_secret_stops_the_start() -> None:
    sender = Sender({"app": ["not a secret"]}, clock=SystemClock(), give=lambda delivery, outcome: None)
    with pytest.raises(ConfigurationError):
        await sender.start()


ALL = {
    name.removeprefix("test_"): test
    for name, test in list(globals().items())
    if inspect.iscoroutinefunction(test) and name.startswith("test_") and not inspect.signature(test).parameters
}


@pytest.mark.parametrize("test", ALL.values(), ids=ALL.keys())
def test_on_the_loop_of_the_service(test: Callable[[], Coroutine[object, object, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())
