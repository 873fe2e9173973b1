"""The application of the measurements: answers every call, counts every webhook. A process of its own.

`python -m benchmarks.application HOST PORT [SECRET]`. With a secret every signature is checked by the `standardwebhooks`
library and every call's order too, which costs it more than answering does: for runs that show, not for runs that measure.
`GET /counts` tells.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter

import uvloop
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

ANSWER = json.dumps({"actions": [{"action": "answer"}]}).encode()


class Application:
    """What has come so far."""

    def __init__(self, secret: str | None) -> None:
        self._webhook = None if secret is None else Webhook(secret)
        self._types: Counter[str] = Counter()
        self._bytes = 0
        self._unsigned = 0
        self._disordered = 0
        self._last: dict[str, int] = {}

    async def handle(self, request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return web.json_response(self.counts())
        body = await request.read()
        event = json.loads(body)
        if self._webhook is not None:
            self._check(self._webhook, body, dict(request.headers), event)
        kind = event["type"]
        self._types[kind] += 1
        self._bytes += len(body)
        if kind == "call.incoming":
            return web.Response(body=ANSWER, content_type="application/json")
        return web.Response()

    def counts(self) -> dict[str, object]:
        return {
            "types": dict(self._types),
            "bytes": self._bytes,
            "unsigned": self._unsigned,
            "disordered": self._disordered,
        }

    def _check(self, webhook: Webhook, body: bytes, headers: dict[str, str], event: dict[str, object]) -> None:
        try:
            webhook.verify(body, headers)
        except WebhookVerificationError:
            self._unsigned += 1
        data = event["data"]
        if isinstance(data, dict):
            stream, sequence = str(data["stream"]), int(data["sequence"])
            if sequence != self._last.get(stream, 0) + 1:
                self._disordered += 1
            self._last[stream] = sequence


async def serve(host: str, port: int, secret: str | None) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    runner = web.ServerRunner(web.Server(Application(secret).handle))
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=4096).start()
    await over.wait()
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None))
