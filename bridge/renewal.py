"""Keeps the certificates of TLS fresh: read again on SIGHUP, and when their files have changed.

What cannot be used is said, with the key that names its file, and leaves in force what was there. Refuses to know what TLS
does with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from bridge.ambient import Clock
from bridge.net.certificates import Certificates, TlsFileError

LOOK_S = 3.0  # a change is used after two looks that see the same: a certificate and its key are seldom written at once
SOON_S = 14 * 86_400.0  # as the alert of the chart

log = structlog.get_logger("bridge.tls")


class Renewal:
    """The duty of one process."""

    def __init__(
        self,
        certificates: Certificates,
        *,
        clock: Clock,
        expires: Callable[[float], None],
        look_s: float = LOOK_S,
    ) -> None:
        """`expires` is told when the first of our certificates ends (seconds UTC), as often as they are read."""
        self._certificates = certificates
        self._clock = clock
        self._expires = expires
        self._look_s = look_s
        self._asked = asyncio.Event()
        self._seen = certificates.stamp()
        self._tell("certificates_loaded")

    def ask(self) -> None:
        """Read them again, changed or not: somebody wants it."""
        self._asked.set()

    async def keep(self) -> None:
        """Until it is canceled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_s):
                    await self._asked.wait()
            stamp = self._certificates.stamp()
            if self._asked.is_set() or (stamp == self._seen and self._certificates.has_changed()):
                self._asked.clear()
                await self._renew()
            self._seen = stamp

    async def _renew(self) -> None:
        try:
            await asyncio.to_thread(self._certificates.reload)  # the system's authorities alone take 20 ms
        except TlsFileError as error:
            log.error("certificates_not_reloaded", detail=str(error), advice="those before them stay in force")
        else:
            self._tell("certificates_reloaded")

    def _tell(self, event: str) -> None:
        expires_at = self._certificates.loaded.expires_at
        self._expires(expires_at)
        left_s = expires_at - self._clock.now()
        until = datetime.fromtimestamp(expires_at, UTC).isoformat(timespec="seconds")
        log.info(event, certificates=len(self._certificates.loaded.leaves), expires=until)
        if left_s <= 0:
            log.error("certificate_expired", expired=until, advice="whoever verifies it refuses us")
        elif left_s < SOON_S:
            log.warning("certificate_expires_soon", expires=until)
