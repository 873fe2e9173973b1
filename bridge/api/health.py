"""`/livez`, `/readyz`, `/metrics`: for whoever watches the process, without a key, on a port of their own if wanted.

Live: the process answers. Ready: started once and not draining; a store that is away or ports that are used up are not
in it, because all pods would leave their Service at once and take the live calls with them (contract §2).
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.api import Health, NotReady
from bridge.api.exchange import answer
from bridge.api.problems import problem_response
from bridge.telemetry.metrics import Metrics


class Watch:
    """The handlers of the three paths."""

    __slots__ = ("_health", "_metrics")

    def __init__(self, *, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    def handlers(self) -> dict[str, Handler]:
        """One for each operation, by its id."""
        return {"live": self.live, "ready": self.ready, "metrics": self.metrics}

    async def live(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def ready(self, _request: web.Request) -> web.StreamResponse:
        said = self._health.ready()
        if isinstance(said, NotReady):
            return problem_response("not_ready", said.reason)
        return answer({"status": "ready"})

    async def metrics(self, _request: web.Request) -> web.StreamResponse:
        media_type, body = self._metrics.exposition()
        return web.Response(body=body, headers={"Content-Type": media_type})
