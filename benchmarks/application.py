"""The application of the measurements: answers every call, or dials somebody for it, and counts every webhook. A process of
its own.

`python -m benchmarks.application HOST PORT [--secret SECRET] [--dial URI]`. With a secret every signature is checked by the `standardwebhooks`
library and every call's order too, which costs it more than answering does: for runs that show, not for runs that measure.
`GET /counts` tells.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections import Counter

import uvloop
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError


def reply_of(dials: str | None) -> bytes:
    """What every call gets: an answer, or somebody else."""
    action = {"action": "answer"} if dials is None else {"action": "dial", "to": dials}
    return json.dumps({"actions": [action]}).encode()


class Application:
    """What has come so far."""

    def __init__(self, secret: str | None, dials: str | None) -> None:
        self._reply = reply_of(dials)
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
            return web.Response(body=self._reply, content_type="application/json")
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


async def serve(host: str, port: int, secret: str | None, dials: str | None) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    runner = web.ServerRunner(web.Server(Application(secret, dials).handle))
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=4096).start()
    await over.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--secret")
    parser.add_argument("--dial")
    given = parser.parse_args()
    uvloop.run(serve(given.host, given.port, given.secret, given.dial))


if __name__ == "__main__":
    main()
