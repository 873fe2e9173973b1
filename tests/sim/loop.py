"""An event loop in virtual time: what is asynchronous in a process runs on it as it is, and nothing in it waits.

Each process has one of its own, so that what it has begun ends with it: a dead process's tasks take no further step, and
one that stands still takes its next one when it goes on. Only as much of a loop as tasks, futures and timeouts need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from bridge.errors import BridgeError
from tests.sim.clock import VirtualClock

T = TypeVar("T")

# What a task may end with: whoever waits for it knows what to do.
_TOLD = (asyncio.CancelledError, BridgeError, TimeoutError)


class ProcessLoop(asyncio.AbstractEventLoop):
    """`soon` runs a step of its process as soon as that can take one, or never."""

    def __init__(self, clock: VirtualClock, soon: Callable[[Callable[[], None]], None]) -> None:
        self._clock = clock
        self._soon = soon
        self._failures: list[BaseException] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._dead = False

    def time(self) -> float:
        return self._clock.now()

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._clock.later(0.0, partial(self._soon, partial(self._run, handle)))
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._clock.at(when, partial(self._soon, partial(self._run, handle)))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        if self._dead:
            coro.close()
            coro = _nothing()
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        task.add_done_callback(self._done)
        return task

    def die(self) -> None:
        """Its process is dead, and what it does at the end of its tasks reaches nobody."""
        self._dead = True
        with self.running():
            for task in self._tasks:
                with suppress(ValueError, RuntimeError):  # it is what has just ended the process, or waits at its end
                    task.get_coro().close()

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A callback has failed, or a task of which nobody wants to know how it ended."""
        failure = context.get("exception")
        if failure is not None and not isinstance(failure, _TOLD):
            self._failures.append(failure)

    @contextmanager
    def running(self) -> Iterator[None]:
        """For what a process does that is no task of its own: tasks that this begins are its own."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(before)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It finds out itself, when it is due."""

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.remove(task)
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not isinstance(failure, _TOLD):
            self._failures.append(failure)

    def _run(self, handle: asyncio.Handle) -> None:
        """One step. What nobody is told of ends the run."""
        if handle.cancelled():
            return
        with self.running():
            handle._run()
        if self._failures:
            raise self._failures.pop()


async def _nothing() -> Any:
    """What a dead process does."""
