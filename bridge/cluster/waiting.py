"""What waits to leave for one node: bounded in bytes and in age, as UDP would have it. SIP repeats what matters.

Knows no clock: the time is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Waiting:
    """Payloads, oldest first. What is thrown away is counted: `cluster_queue_full`, `cluster_stale`."""

    __slots__ = ("_dropped", "_most_bytes", "_most_s", "_queue", "_size")

    def __init__(self, *, most_bytes: int, most_s: float, dropped: Callable[[str], None]) -> None:
        self._most_bytes = most_bytes
        self._most_s = most_s
        self._dropped = dropped
        self._queue: deque[tuple[float, bytes]] = deque()  # since when it waits, what
        self._size = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, payload: bytes, *, now: float) -> bool:
        """False: there is no room."""
        size = self._size + len(payload)
        if size > self._most_bytes:
            self._dropped("cluster_queue_full")
            return False
        self._size = size
        self._queue.append((now, payload))
        return True

    def take(self, most_bytes: int, *, now: float) -> list[bytes]:
        """The oldest ones that are still worth something, until they are `most_bytes` together, but one at least."""
        queue, since = self._queue, now - self._most_s
        taken: list[bytes] = []
        size = 0
        while queue and size < most_bytes:
            at, payload = queue.popleft()
            self._size -= len(payload)
            if at < since:
                self._dropped("cluster_stale")
            else:
                size += len(payload)
                taken.append(payload)
        return taken

    def expire(self, *, now: float) -> None:
        """Throw away what has waited too long."""
        queue, since = self._queue, now - self._most_s
        while queue and queue[0][0] < since:
            self._size -= len(queue.popleft()[1])
            self._dropped("cluster_stale")

    def drop(self, reason: str) -> None:
        """Throw away everything."""
        for _ in self._queue:
            self._dropped(reason)
        self._queue.clear()
        self._size = 0

    def remove(self, kind: int) -> None:
        """Take out what is of this kind: whoever wanted it sent has been told that it was not."""
        kept = [waiting for waiting in self._queue if waiting[1][0] != kind]
        self._queue = deque(kept)
        self._size = sum(len(payload) for _, payload in kept)
