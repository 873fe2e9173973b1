"""The HTTP application of the demo: it decides about calls, and checks every webhook it gets."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any

from aiohttp import web

from bridge.webhooks.signing import verify

ANSWER = "100"  # the number that is answered
BUSY = "200"  # the number that is not
SENT_ON = "300"  # the number whose callers are sent to another phone
_EVENTS_KEPT = 1000  # with `stay` there may be many
_ANSWERING: list[dict[str, Any]] = [{"action": "ring"}, {"action": "pause", "seconds": 0.5}, {"action": "answer"}]


class Application:
    """What it was told, and what it says."""

    def __init__(self, secret: str, show: Callable[[str, dict[str, Any]], None], *, callee: str) -> None:
        """`show` is told of each event ("hook") and each decision ("reply"). `callee`: the URI that `SENT_ON` leads to."""
        self._secret = secret
        self._show = show
        self._callee = callee
        self._ended: dict[str, asyncio.Event] = {}
        self.events: deque[dict[str, Any]] = deque(maxlen=_EVENTS_KEPT)
        self.unsigned = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/calls", self._webhook)
        return app

    async def _webhook(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not verify(self._secret, request.headers, body):
            self.unsigned += 1
            return web.json_response({"error": "signature"}, status=401)
        event = json.loads(body)
        self._show("hook", event)
        self.events.append(event)
        if event["type"] == "call.ended" and party(event) in self._ended:
            self._ended[party(event)].set()
        if event["type"] != "call.incoming":
            return web.Response()
        reply = {"actions": self._decide(event["data"]["call"]["to"]["user"])}
        self._show("reply", reply)
        return web.json_response(reply)

    def _decide(self, number: str) -> list[dict[str, Any]]:
        if number == BUSY:
            return [{"action": "reject", "code": 486}]
        if number == SENT_ON:
            return [{"action": "dial", "to": self._callee, "timeout_s": 30}]
        return _ANSWERING

    def over(self, name: str) -> asyncio.Event:
        """Set once the next `call.ended` of this party has come."""
        return self._ended.setdefault(name, asyncio.Event())

    def events_of(self, name: str) -> list[dict[str, Any]]:
        """The events of this party's calls, or of its registration, in the order in which they came."""
        return [event for event in self.events if party(event) == name]


def party(event: dict[str, Any]) -> str:
    """Whom an event is about: who calls the bridge, whom the bridge calls, or the address that a phone registers for."""
    data = event["data"]
    if "aor" in data:
        return str(data["aor"])
    side = "from" if data["call"]["direction"] == "inbound" else "to"
    return str(data["call"][side]["user"])
