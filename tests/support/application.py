"""An HTTP application under test conditions: decides about calls, verifies every webhook, and knows when a promise is broken.

The verifier is the `standardwebhooks` library, not ours. What contract §3 promises is checked as each webhook comes: signed, one
in flight per call, in the order of `sequence` without a gap, a repetition only with the same id and the same bytes, nothing
after `call.ended`. It can be made to answer anything, to go down and to come back.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.support.namespaces import LOOPBACK, Host
from tests.support.programs import PORTS
from tests.support.waiting import PATIENCE_S, until

SECRET = "whsec_" + "dGhlIHNlY3JldCBvZiB0aGUgdGVzdHMgb2YgYnJpZGdl"
Event = dict[str, Any]
Reply = Callable[[Event], Awaitable[web.StreamResponse]]


Listed = str | dict[str, Any]  # an action by its name, or with its fields


def actions(*listed: Listed) -> web.Response:
    """A decision."""
    return web.json_response({"actions": [{"action": each} if isinstance(each, str) else each for each in listed]})


async def answering(event: Event) -> web.StreamResponse:
    """What an application does that answers every call."""
    return actions("answer") if event["type"] == "call.incoming" else web.Response()


def is_call(stream: str) -> bool:
    """Whether this is a call's stream, which has an end."""
    return stream.startswith("call_")


class HangsUp(Exception):
    """Raised by a reply that breaks the connection instead of answering."""


@dataclass
class Stream:
    """What came about one call, in order of its first coming."""

    events: list[Event] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)  # by webhook-id
    settled: int = 0  # the highest sequence that we have answered with 2xx
    duplicates: int = 0
    attempts: Counter[int] = field(default_factory=Counter)  # by sequence
    in_flight: web.Request | None = None

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def ended(self) -> Event | None:
        return self.events[-1] if self.events and self.events[-1]["type"] == "call.ended" else None

    @property
    def call(self) -> dict[str, Any]:
        """The Call as its last event shows it."""
        shown: dict[str, Any] = self.events[-1]["data"]["call"]
        return shown


class Application:
    """Listens on a port of its own from `start` on."""

    def __init__(self, reply: Reply = answering, *, dead_events: bool = False, host: Host = LOOPBACK) -> None:
        """`dead_events`: events may be given up, so gaps and calls without an end are no fault."""
        self.reply = reply
        self._host = host.address
        self.port = PORTS.one()
        self.streams: dict[str, Stream] = {}
        self.faults: list[str] = []
        self.received = 0  # every POST, repetitions included
        self.answers: Counter[str] = Counter()
        self._dead_events = dead_events
        self._verifier = Webhook(SECRET)
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Task[Any]] = set()  # that make an answer

    @property
    def url(self) -> str:
        return self.url_of("/calls")

    def url_of(self, path: str) -> str:
        return f"http://{self._host}:{self.port}{path}"

    async def start(self) -> None:
        """Listen: the first time, or again after `stop`."""
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._webhook)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self.port, reuse_address=True).start()

    async def stop(self) -> None:
        """Go away: nobody listens on the port any more, and connections are closed."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for task in self._tasks:
            task.cancel()
        await runner.cleanup()

    # What a test asks

    def stream_of(self, sip_call_id: str) -> Stream | None:
        """The call that this SIP Call-ID made."""
        calls = (each for name, each in self.streams.items() if is_call(name))
        return next((each for each in calls if each.call["sip"]["call_id"] == sip_call_id), None)

    def events(self) -> Iterator[Event]:
        return (event for stream in self.streams.values() for event in stream.events)

    def count(self, kind: str) -> int:
        """Distinct events of this type."""
        return sum(event["type"] == kind for event in self.events())

    def open_calls(self) -> list[str]:
        return [call for call, stream in self.streams.items() if is_call(call) and stream.ended is None]

    async def stream(self, sip_call_id: str) -> Stream:
        """Wait until this call's first event has come."""
        await until(lambda: self.stream_of(sip_call_id), f"an event of {sip_call_id}")
        found = self.stream_of(sip_call_id)
        assert found is not None
        return found

    async def all_ended(self, calls: int, *, within_s: float = PATIENCE_S) -> None:
        """Wait until so many calls are known and the last event of each has come."""

        def state() -> str:
            left = self.open_calls()
            shown = [f"{call}: {self.streams[call].types}" for call in left[:5]]
            return f"{calls} calls ended; {len(self.streams)} known, {len(left)} of them open: {shown}"

        def all_there() -> bool:
            return sum(map(is_call, self.streams)) >= calls and not self.open_calls()

        await until(all_there, state, within_s=within_s)

    async def event(
        self, kind: str, *, call: str | None = None, number: int = 1, within_s: float = PATIENCE_S
    ) -> Event:
        """Wait for the `number`-th event of this type, of one call or of any."""

        def found() -> list[Event]:
            streams = self.streams.values() if call is None else [self.streams[call]] if call in self.streams else []
            matching = [event for stream in streams for event in stream.events if event["type"] == kind]
            return matching[number - 1 : number]

        def seen() -> str:
            return f"{kind} number {number}; came: {[stream.types for stream in self.streams.values()][:5]}"

        return (await until(found, seen, within_s=within_s))[0]

    async def outcome(self, call: str) -> str:
        """Wait until this call is answered, or over: "answered", or the reason phrase that it has ended with."""

        def told() -> list[str]:
            types = self.streams[call].types if call in self.streams else []
            return [each for each in types if each in ("call.answered", "call.ended")]

        first = (await until(told, f"what comes of {call}"))[0]
        return "answered" if first == "call.answered" else str(self.streams[call].call["ended"]["sip_reason"])

    def judge(self) -> Counter[str]:
        """Fail the test if any promise was broken; else the number of distinct events by type."""
        faults = list(self.faults)
        for call, stream in self.streams.items():
            if self._dead_events or not is_call(call):
                continue
            if stream.ended is None or stream.types.count("call.ended") != 1:
                faults.append(f"{call} has no one end: {stream.types}")
            if stream.types[0] not in ("call.incoming", "call.initiated"):
                faults.append(f"{call} begins with {stream.types[0]}")
        assert not faults, f"{len(faults)} faults, the first: {faults[:10]}"
        return Counter(event["type"] for event in self.events())

    # What the bridge sees

    async def _webhook(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except (ConnectionError, web.HTTPException):  # it died while it was sending
            return web.Response(status=400)
        self.received += 1
        event = self._verified(request, body)
        if event is None:
            return web.Response(status=401)
        stream = self.streams.setdefault(event["data"]["stream"], Stream())
        self._arrived(stream, event, body)
        self._alone(stream, event, request)
        stream.in_flight = request
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            answer = await self.reply(event)
        except HangsUp:
            self.answers["hung up"] += 1
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        finally:
            self._tasks.discard(task)
            if stream.in_flight is request:
                stream.in_flight = None
        self.answers[str(answer.status)] += 1
        if 200 <= answer.status < 300:
            stream.settled = max(stream.settled, event["data"]["sequence"])
        return answer

    def _verified(self, request: web.Request, body: bytes) -> Event | None:
        try:
            event: Event = self._verifier.verify(body, dict(request.headers))
        except (WebhookVerificationError, ValueError) as problem:
            self.faults.append(f"not verified: {problem}: {dict(request.headers)} {body[:200]!r}")
            return None
        if request.method != "POST" or not (request.content_type or "").startswith("application/json"):
            self.faults.append(f"{request.method} with {request.content_type}")
        if request.headers["webhook-id"] != event["id"]:
            self.faults.append(f"webhook-id {request.headers['webhook-id']} is not {event['id']}")
        return event

    def _arrived(self, stream: Stream, event: Event, body: bytes) -> None:
        data, known = event["data"], stream.bodies.get(event["id"])
        sequence, last = data["sequence"], stream.events[-1]["data"]["sequence"] if stream.events else 0
        stream.attempts[sequence] += 1
        if known is not None:
            stream.duplicates += 1
            if known != body:
                self.faults.append(f"{event['id']} came again with another body")
            return
        what = f"{data['stream']} #{sequence} {event['type']}"
        if sequence <= last:
            self.faults.append(f"{what} after #{last}, under a new id")
        elif sequence != last + 1 and not self._dead_events:
            self.faults.append(f"{what} after #{last}: a gap")
        if stream.settled < last and not self._dead_events:
            self.faults.append(f"{what} though #{last} was not taken")
        if stream.ended is not None:
            self.faults.append(f"{what} after the end")
        stream.bodies[event["id"]] = body
        stream.events.append(event)

    def _alone(self, stream: Stream, event: Event, request: web.Request) -> None:
        """One in flight at a time; what a dead process has left behind flies no more."""
        other = stream.in_flight
        if other is not None and other.transport is not None and not other.transport.is_closing():
            self.faults.append(f"{event['data']['stream']}: two at once")


def moody(moods: Sequence[tuple[float, str]], dice: Callable[[], float], *, slow_s: float) -> Reply:
    """An application that fails at random: (probability, mood) pairs; else it answers."""

    async def reply(event: Event) -> web.StreamResponse:
        thrown = dice()
        for probability, mood in moods:
            if thrown < probability:
                return await _in_mood(mood, event, slow_s)
            thrown -= probability
        return await answering(event)

    return reply


async def _in_mood(mood: str, event: Event, slow_s: float) -> web.StreamResponse:
    match mood:
        case "error":
            return web.Response(status=500, text="Traceback (most recent call last): ...")
        case "hang up":
            raise HangsUp
        case "slow":
            await asyncio.sleep(slow_s)
            return await answering(event)
        case "busy":
            return web.Response(status=503, headers={"Retry-After": "1"})
        case "nonsense":
            return web.Response(text="<html>It works!</html>", content_type="text/html")
        case "wrong":
            return web.Response(text=json.dumps({"actions": [{"action": "dance"}]}), content_type="application/json")
    raise AssertionError(f"no such mood: {mood}")
