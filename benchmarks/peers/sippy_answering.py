# mypy: disable-error-code="import-not-found,import-untyped,misc"
"""sippy (PyPI) as an answering user agent server, with webhooks and Redis: `... sippy_answering SETTINGS.json`.

sippy runs its own event loop in the main thread, at its default of 100 rounds a second; its log of every message is off.
Webhooks and Redis are on uvloop in a second thread, with aiohttp and redis-py (hiredis), the cheapest that Python has.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import signal
import sys
import threading
import time
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import redis.asyncio
import uvloop
from aiohttp import ClientSession, TCPConnector
from sippy.CCEvents import CCEventConnect, CCEventDisconnect, CCEventFail, CCEventPreConnect, CCEventTry
from sippy.Core.EventDispatcher import ED2
from sippy.MsgBody import MsgBody
from sippy.SipConf import SipConf
from sippy.SipTransactionManager import SipTransactionManager
from sippy.UA import UA

RETENTION_S = 86_400


class SilentLog:
    """sippy writes every message to its log; nobody else in the table does."""

    def write(self, *_: object, **__: object) -> None:
        return None


class Back:
    """Redis and the application, on a loop of their own."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._url = settings["webhook_url"]
        self._key = b64decode(settings["secret"].removeprefix("whsec_"))
        self._redis_url = settings["redis"]
        self.loop = uvloop.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._open())
        self.loop.run_forever()

    async def _open(self) -> None:
        self._http = ClientSession(connector=TCPConnector(limit=0))
        self._redis = redis.asyncio.from_url(self._redis_url)
        await self._redis.ping()

    def call(self, call: Call) -> None:
        """From sippy's thread: a new call."""
        self.loop.call_soon_threadsafe(self._start, call)

    def event(self, call: Call, kind: str) -> None:
        """From sippy's thread: something has happened to a call."""
        self.loop.call_soon_threadsafe(call.events.put_nowait, kind)

    def _start(self, call: Call) -> None:
        task = self.loop.create_task(self._carry(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, call: Call) -> None:
        """A call's events in order, one webhook at a time, each stored before it leaves."""
        sequence = 0
        while True:
            kind = await call.events.get()
            sequence += 1
            event_id = f"evt_{secrets.token_hex(12)}"
            body = json.dumps(call.render(event_id, kind, sequence)).encode()
            await self._store(call, kind, sequence, body)
            actions = await self._post(event_id, body)
            if kind == "call.incoming":
                ED2.callFromThread(call.decided, actions)
            if kind == "call.ended":
                await self._conclude(call, sequence, body)
                return

    async def _store(self, call: Call, kind: str, sequence: int, body: bytes) -> None:
        """State, event and the cursor of what was delivered before it, in one round trip."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(f"call:{call.id}", mapping={"state": call.state, "sequence": sequence, "kind": kind})
            pipe.hset(f"out:{call.id}", mapping={f"e:{sequence}": body, "c": sequence - 1})
            if sequence == 1:
                pipe.hset(f"call:{call.id}", "invite", call.invite)
                pipe.sadd("calls", call.id)
            await pipe.execute()

    async def _conclude(self, call: Call, sequence: int, body: bytes) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(f"out:{call.id}", "c", sequence)
            pipe.expire(f"out:{call.id}", RETENTION_S)
            pipe.delete(f"call:{call.id}")
            pipe.set(f"final:{call.id}", body, ex=RETENTION_S)
            pipe.srem("calls", call.id)
            await pipe.execute()

    async def _post(self, event_id: str, body: bytes) -> list[dict[str, Any]]:
        moment = int(time.time())
        content = b"%b.%d.%b" % (event_id.encode(), moment, body)
        headers = {
            "content-type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(moment),
            "webhook-signature": "v1," + b64encode(hmac.digest(self._key, content, hashlib.sha256)).decode(),
        }
        async with self._http.post(self._url, data=body, headers=headers) as answer:
            text = await answer.read()
        return json.loads(text)["actions"] if text else []


class Call:
    """One call, seen by sippy's thread; `events` belongs to the other one."""

    def __init__(self, back: Back, config: dict[str, Any]) -> None:
        self._back = back
        self.id = f"call_{secrets.token_hex(12)}"
        self.state = "initiated"
        self.invite = b""
        self.created = time.time()
        self.answered: float | None = None
        self.parties = ("", "")
        self.events: asyncio.Queue[str] = asyncio.Queue()
        self.ua = UA(config, self.happened)
        self._host = config["_sip_address"]

    def happened(self, event: Any, _: Any) -> None:
        """sippy's events."""
        if isinstance(event, CCEventTry):
            call_id, caller, called, body = event.getData()[:4]
            self.parties = (str(caller), str(called))
            self.invite = f"{call_id}\r\n{body}".encode()
            self._back.call(self)
            self._back.event(self, "call.incoming")
        elif isinstance(event, CCEventConnect):
            self._acknowledged()
        elif isinstance(event, CCEventDisconnect | CCEventFail) and self.state != "ended":
            if self.state == "accepted":
                self._acknowledged()  # the ACK came in the same round as the BYE, and sippy tells of the BYE alone
            self.state = "ended"
            self._back.event(self, "call.ended")

    def _acknowledged(self) -> None:
        self.state, self.answered = "answered", time.time()
        self._back.event(self, "call.answered")

    def decided(self, actions: list[dict[str, Any]]) -> None:
        """The application's reply."""
        if actions and actions[0]["action"] == "answer":
            self.state = "accepted"
            self.ua.recvEvent(CCEventPreConnect((200, "OK", MsgBody(self._sdp()))))
        else:
            self.ua.recvEvent(CCEventFail((480, "Temporarily Unavailable")))

    def render(self, event_id: str, kind: str, sequence: int) -> dict[str, Any]:
        """As much as our own events say."""
        caller, called = ({"uri": f"sip:{user}@{self._host}", "user": user} for user in self.parties)
        resource: dict[str, Any] = {
            "id": self.id,
            "application": "default",
            "direction": "inbound",
            "state": self.state,
            "from": caller,
            "to": called,
            "created_at": _timestamp(self.created),
            "answered_at": None if self.answered is None else _timestamp(self.answered),
            "sip": {"call_id": str(self.ua.cId), "user_agent": None, "headers": {}},
            "media": {"codec": "PCMU", "local": f"{self._host}:10000", "remote": None, "held": False},
            "ended": {"by": "remote", "reason": "hangup", "sip_code": None} if self.state == "ended" else None,
            "recovered": 0,
            "client_state": None,
            "tags": [],
        }
        data = {"stream": self.id, "sequence": sequence, "call_id": self.id, "caused_by": None, "call": resource}
        return {"id": event_id, "type": kind, "timestamp": _timestamp(time.time()), "api_version": "1", "data": data}

    def _sdp(self) -> str:
        return (
            f"v=0\r\no=bridge 1 1 IN IP4 {self._host}\r\ns=-\r\nc=IN IP4 {self._host}\r\nt=0 0\r\n"
            "m=audio 10000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        )


def _timestamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at * 1000) % 1000:03d}Z"


def main(settings: dict[str, str], ready: Path) -> None:
    """Serve until SIGTERM."""
    back = Back(settings)
    threading.Thread(target=back.run, daemon=True).start()
    config: dict[str, Any] = {"_sip_address": settings["host"], "_sip_port": 5060, "_sip_logger": SilentLog()}
    SipConf.my_address = settings["host"]

    def receive(request: Any, transaction: Any) -> Any:
        if request.getHFBody("to").getTag() is not None:
            return request.genResponse(481, "Call Leg/Transaction Does Not Exist"), None, None
        if request.getMethod() == "INVITE":
            return Call(back, config).ua.recvRequest(request, transaction)
        return request.genResponse(501, "Not Implemented"), None, None

    config["_sip_tm"] = SipTransactionManager(config, receive)
    ED2.regSignal(signal.SIGTERM, ED2.breakLoop)
    ready.touch()
    ED2.loop()


if __name__ == "__main__":
    given = Path(sys.argv[1])
    main(json.loads(given.read_text()), given.parent / "ready")
