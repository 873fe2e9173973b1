"""One attempt per delivery: sign, POST, tell the outcome (contract §3).

`send` starts an attempt and returns; its outcome is given exactly once, later, from the loop. Whatever the endpoint does
is an outcome, never an exception. Refuses to know schedules and order (`bridge.outbox`), and what a reply means
(`bridge.contract`). How many attempts may run at once is the outbox's business too.
"""

from __future__ import annotations

import asyncio
import secrets as randomness
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from hmac import HMAC

from bridge import __version__
from bridge.ambient import Clock
from bridge.outbox.health import mask_url
from bridge.outbox.queue import Delivery
from bridge.outbox.schedule import Error, Outcome
from bridge.webhooks.answer import Answer
from bridge.webhooks.connections import IDLE_S, Connection, Connections
from bridge.webhooks.signing import make_key, sign_with
from bridge.webhooks.target import Target, read_target

_TARGETS_MAX = 4096  # URLs taken apart and remembered
_DETAIL_MAX = 200  # characters


class Sender:
    """The HTTP client of a node's webhooks."""

    def __init__(
        self,
        secrets: Mapping[str, Sequence[str]],
        *,
        clock: Clock,
        give: Callable[[Delivery, Outcome], None],
        tls: ssl.SSLContext | None = None,
        idle_s: float = IDLE_S,
        user_agent: str = f"sip-bridge/{__version__}",
    ) -> None:
        """`secrets` by endpoint id, the first of each being the current one; `give` takes each outcome."""
        self._secrets = secrets
        self._keys: dict[str, tuple[HMAC, ...]] = {}
        self._clock = clock
        self._give = give
        self._user_agent = user_agent
        self._connections = Connections(clock=clock, tls=tls, idle_s=idle_s)
        self._targets: dict[str, Target | str] = {}
        self._attempts: set[_Attempt] = set()
        self._dialing: set[asyncio.Task[None]] = set()
        self._span = 0  # drawn at the start, counted up: names each attempt in `traceparent`
        self._closed = True
        self._loop: asyncio.AbstractEventLoop

    async def start(self) -> None:
        """Read the secrets. Raises ConfigurationError when one is malformed."""
        self._loop = asyncio.get_running_loop()
        self._keys = {
            endpoint: tuple(make_key(secret) for secret in of_it) for endpoint, of_it in self._secrets.items()
        }
        self._span = int.from_bytes(randomness.token_bytes(8), "big")
        self._closed = False

    async def close(self) -> None:
        """Break off what is under way, with outcome `canceled`, and close every connection."""
        self._closed = True
        for attempt in list(self._attempts):
            self._break_off(attempt, "canceled", "")
        for task in list(self._dialing):
            task.cancel()
        await asyncio.gather(*self._dialing, return_exceptions=True)
        await self._connections.close()

    def send(self, delivery: Delivery) -> None:
        """Start this attempt."""
        loop = self._loop
        attempt = _Attempt(self, delivery, self._clock.now())
        self._attempts.add(attempt)
        keys = self._keys.get(delivery.endpoint)
        target = self._targets.get(delivery.url) or self._target(delivery.url)
        if self._closed:
            loop.call_soon(self._break_off, attempt, "canceled", "")
        elif not keys:
            loop.call_soon(self._break_off, attempt, "unsigned", "")
        elif isinstance(target, str):
            loop.call_soon(self._break_off, attempt, "invalid_url", target)
        else:
            attempt.timeout = loop.call_later(delivery.timeout_s, self._time_out, attempt)
            attempt.request = self._request(delivery, target, keys, attempt.started)
            attempt.target = target
            connection = self._connections.take(target.origin)
            if connection is not None:
                attempt.connection = connection
                connection.begin(attempt, attempt.request)
            else:
                self._dial(attempt, target)

    def _target(self, url: str) -> Target | str:
        if len(self._targets) >= _TARGETS_MAX:
            self._targets.clear()
        target = self._targets[url] = read_target(url, self._user_agent)
        return target

    def _request(self, delivery: Delivery, target: Target, keys: Sequence[HMAC], now: float) -> bytes:
        """The whole request. Everything of a call is one trace (W3C Trace Context), every attempt a span of it."""
        timestamp = int(now)
        self._span = span = (self._span + 1) & 0xFFFF_FFFF_FFFF_FFFF or 1
        trace = blake2b(delivery.call.encode(), digest_size=16).hexdigest()
        signature = sign_with(keys, delivery.event_id, timestamp, delivery.body)
        head = (
            f"webhook-id: {delivery.event_id}\r\nwebhook-timestamp: {timestamp}\r\nwebhook-signature: {signature}\r\n"
            f"traceparent: 00-{trace}-{span:016x}-01\r\nContent-Length: {len(delivery.body)}\r\n\r\n"
        )
        return b"".join((target.head, head.encode("ascii"), delivery.body))

    def _dial(self, attempt: _Attempt, target: Target) -> None:
        task = self._loop.create_task(self._dialed(attempt, target))
        attempt.dialing = task
        self._dialing.add(task)
        task.add_done_callback(self._dialing.discard)

    async def _dialed(self, attempt: _Attempt, target: Target) -> None:
        try:
            connection = await self._connections.dial(target.origin)
        except OSError as failure:
            attempt.dialing = None
            self._break_off(attempt, *_why(failure, tls=target.origin.tls))
            return
        except UnicodeError:  # the resolver's IDNA refuses some names that look right, an over-long label for one
            attempt.dialing = None
            self._break_off(attempt, "dns", "no valid host name")
            return
        attempt.dialing = None
        attempt.connection = connection
        connection.begin(attempt, attempt.request)

    def _time_out(self, attempt: _Attempt) -> None:
        connection = attempt.connection
        if connection is None:
            detail = "while connecting"
        else:
            detail = "connected, no answer" if connection.answer.silent else "the answer had begun"
        self._break_off(attempt, "timeout", detail)

    def _break_off(self, attempt: _Attempt, error: Error, detail: str) -> None:
        """Over without a whole answer."""
        if attempt not in self._attempts:
            return
        status = None
        if attempt.connection is not None:
            status = attempt.connection.answer.status
            attempt.connection.abandon()
        self._over(attempt, Outcome(status, error, None, self._clock.now() - attempt.started, b"", detail))

    def answered(self, attempt: _Attempt, answer: Answer, connection: Connection) -> None:
        """A connection has told the end of an exchange."""
        if answer.error == "closed" and answer.silent and connection.reused and not attempt.repeated:
            # The server closed a kept connection while our request was on its way (RFC 9112 §9.3.1). The event's id tells
            # it about a duplicate, and a caller would pay for the race with the fallback plan: once more, on a fresh one.
            attempt.repeated = True
            attempt.connection = None
            if attempt.target is not None:
                self._dial(attempt, attempt.target)
            return
        now = self._clock.now()
        status = answer.status
        retry_after = None if answer.retry_after is None else _seconds(answer.retry_after, now)
        body = answer.body if attempt.delivery.decision else b""
        detail = answer.problem
        if status is not None and 300 <= status < 400 and answer.location:
            detail = mask_url(answer.location)[:_DETAIL_MAX]
        self._over(
            attempt,
            Outcome(status, answer.error, retry_after, now - attempt.started, body, detail, answer.content_type),
        )

    def _over(self, attempt: _Attempt, outcome: Outcome) -> None:
        self._attempts.discard(attempt)
        if attempt.timeout is not None:
            attempt.timeout.cancel()
        if attempt.dialing is not None:
            attempt.dialing.cancel()
        attempt.connection = None
        self._give(attempt.delivery, outcome)


class _Attempt:
    """A delivery under way."""

    __slots__ = ("connection", "delivery", "dialing", "repeated", "request", "sender", "started", "target", "timeout")

    def __init__(self, sender: Sender, delivery: Delivery, started: float) -> None:
        self.sender = sender
        self.delivery = delivery
        self.started = started
        self.request = b""
        self.target: Target | None = None
        self.connection: Connection | None = None
        self.dialing: asyncio.Task[None] | None = None
        self.timeout: asyncio.TimerHandle | None = None
        self.repeated = False  # once already, on a fresh connection

    def answered(self, answer: Answer, connection: Connection) -> None:
        """A connection tells the end of the exchange."""
        self.sender.answered(self, answer, connection)


def _why(failure: OSError, *, tls: bool) -> tuple[Error, str]:
    """Why there is no connection, and what the system said about it."""
    match failure:
        case socket.gaierror():
            error: Error = "dns"
        case ssl.SSLCertVerificationError():
            return "tls", failure.verify_message
        case ssl.SSLError():
            error = "tls"
        case ConnectionRefusedError():
            error = "refused"
        case TimeoutError():
            error = "timeout"
        case ConnectionError():
            error = "tls" if tls else "closed"  # in the middle of the handshake
        case _:
            error = "unreachable"
    return error, (failure.strerror or str(failure))[:_DETAIL_MAX]


def _seconds(retry_after: str, now: float) -> float | None:
    """`Retry-After` in seconds from now: a number or a date (RFC 9110 §10.2.3). None when it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None
