"""One kind of key of the keyspace in memory: values that expire, with every change to be undone. Knows no record."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from bridge.ambient import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Table(Generic[K, V]):
    """Values that may expire. Every change can be undone."""

    __slots__ = ("_cells", "_clock", "_expiries", "_undo")

    def __init__(self, clock: Clock, undo: Callable[[Callable[[], None]], None]) -> None:
        self._cells: dict[K, tuple[V, float | None]] = {}  # value, and when it expires (seconds UTC)
        self._expiries: deque[tuple[float, K]] = deque()  # ascending, for all are kept equally long
        self._clock = clock
        self._undo = undo

    def get(self, key: K) -> V | None:
        cell = self._cells.get(key)
        return None if cell is None or self._is_over(cell) else cell[0]

    def items(self) -> Iterator[tuple[K, V]]:
        return ((key, cell[0]) for key, cell in self._cells.items() if not self._is_over(cell))

    def put(self, key: K, value: V, *, keep_s: float | None = None) -> None:
        """`keep_s` None: for ever, or for as long as the key had before."""
        before = self._cells.get(key)
        expires = before[1] if before is not None else None
        if keep_s is not None:
            expires = self._clock.now() + keep_s
            self._expiries.append((expires, key))
        self._set(key, (value, expires))
        self._sweep()

    def expire(self, key: K, keep_s: float) -> None:
        value = self.get(key)
        if value is not None:
            self.put(key, value, keep_s=keep_s)

    def drop(self, key: K) -> None:
        self._set(key, None)

    def clear(self) -> None:
        for key in list(self._cells):
            self.drop(key)

    def _set(self, key: K, cell: tuple[V, float | None] | None) -> None:
        before = self._cells.get(key)
        self._undo(lambda: self._restore(key, before))
        self._restore(key, cell)

    def _restore(self, key: K, cell: tuple[V, float | None] | None) -> None:
        if cell is None:
            self._cells.pop(key, None)
        else:
            self._cells[key] = cell

    def _is_over(self, cell: tuple[V, float | None]) -> bool:
        return cell[1] is not None and cell[1] <= self._clock.now()

    def _sweep(self) -> None:
        now = self._clock.now()
        while self._expiries and self._expiries[0][0] <= now:
            key = self._expiries.popleft()[1]
            cell = self._cells.get(key)
            if cell is not None and self._is_over(cell):
                self.drop(key)
