"""The application of the measurements: answers every call, or dials somebody for it, and counts every webhook. A process of
its own.

`python -m benchmarks.application HOST PORT [--secret SECRET] [--dial URI]`. `{user}` in the URI is the number that was called. With a
secret every signature is checked by the `standardwebhooks` library and the order of each call's events too, which costs it more
than answering does: for runs in which its cost is no figure. `GET /counts` tells.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import uvloop
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

NUMBER = "{user}"


def reply_of(dials: str | None) -> bytes:
    """What every call gets: an answer, or somebody else."""
    action = {"action": "answer"} if dials is None else {"action": "dial", "to": dials}
    return json.dumps({"actions": [action]}).encode()


@dataclass(slots=True)
class Order:
    """What has come of the events of every call, each of which is numbered from 1 on."""

    numbers: dict[str, set[int]] = field(default_factory=dict)  # by stream
    ended: dict[str, int] = field(default_factory=dict)  # the number of `call.ended`, which is to be the last
    disordered: int = 0
    repeated: int = 0

    def take(self, kind: str, stream: str, sequence: int) -> bool:
        """Whether this one has not come before."""
        numbers = self.numbers.setdefault(stream, set())
        if sequence in numbers:
            self.repeated += 1
            return False
        if numbers and sequence < max(numbers):
            self.disordered += 1
        numbers.add(sequence)
        if kind == "call.ended":
            self.ended[stream] = sequence
        return True

    def missing(self) -> int:
        """Numbers that were passed over, and calls that have not ended with their last event."""
        gaps = sum(max(numbers) - len(numbers) for numbers in self.numbers.values())
        return gaps + sum(self.ended.get(stream) != max(numbers) for stream, numbers in self.numbers.items())


class Application:
    """What has come so far."""

    def __init__(self, secret: str | None, dials: str | None) -> None:
        self._dials = dials if dials is not None and NUMBER in dials else None
        self._reply = reply_of(dials)
        self._webhook = None if secret is None else Webhook(secret)
        self._types: Counter[str] = Counter()
        self._bytes = 0
        self._unsigned = 0
        self._order = Order()

    async def handle(self, request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return web.json_response(self.counts())
        body = await request.read()
        event = json.loads(body)
        kind = event["type"]
        if self._webhook is None or self._is_new(self._webhook, body, dict(request.headers), event):
            self._types[kind] += 1
        self._bytes += len(body)
        if kind == "call.incoming":
            return web.Response(body=self.reply_to(event), content_type="application/json")
        return web.Response()

    def counts(self) -> dict[str, object]:
        """`types` counts repetitions only where nothing is checked."""
        return {
            "types": dict(self._types),
            "bytes": self._bytes,
            "unsigned": self._unsigned,
            "streams": len(self._order.numbers),
            "missing": self._order.missing(),
            "disordered": self._order.disordered,
            "repeated": self._order.repeated,
        }

    def reply_to(self, event: Mapping[str, Any]) -> bytes:
        if self._dials is None:
            return self._reply
        return reply_of(self._dials.replace(NUMBER, event["data"]["call"]["to"]["user"]))

    def _is_new(self, webhook: Webhook, body: bytes, headers: dict[str, str], event: Mapping[str, Any]) -> bool:
        try:
            webhook.verify(body, headers)
        except WebhookVerificationError:
            self._unsigned += 1
        data = event["data"]
        return not isinstance(data, dict) or self._order.take(event["type"], str(data["stream"]), int(data["sequence"]))


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
