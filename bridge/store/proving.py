"""Which answers have to wait until a replica has what they answer (survival.md §1, §6): `WAIT 1`, where a failover could
lose the record of an idempotent origination.

Such a commit is applied by the hot connection like every other. Its answer is held back here, with the answers that follow
it in its conversation, until the same commit, sent again beside a write of our own, is followed by a `WAIT` that a replica
has answered: `WAIT` speaks of the writes of its own connection, and the hot one must not stand still for it. Sent again,
the commit also finds out what a failover in between has lost. Refuses to know what it holds back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import structlog

from bridge.calls.facts import ConversationId
from bridge.engine.inputs import Committed, Input
from bridge.errors import StoreUnavailable

AGAIN_S = 0.25  # after the store has not answered at all
TOGETHER_MAX = 64  # commits that are proven by one WAIT

Command: TypeAlias = tuple[object, ...]
Prove: TypeAlias = Callable[[Sequence[Command]], Awaitable[tuple[list[Any], bool]]]

log = structlog.get_logger("bridge.store")


@dataclass(slots=True)
class _Held:
    """The answers of one conversation, in the order of its commits."""

    awaited: int = 0  # commits without an answer
    answers: deque[_Answer] = field(default_factory=deque)


@dataclass(slots=True)
class _Answer:
    given: Input
    ticket: int
    command: Command | None = None  # what has to be proven first; None: nothing


@dataclass(frozen=True, slots=True)
class Provisional:
    """The tag of a commit whose answer may have to wait."""

    conversation: ConversationId
    ticket: int
    command: Command | None


class Proofs:
    """Answers that wait for a replica. `prove` sends commands and says what came, and whether a replica has it all;
    `judge` makes of such an answer what the engine is told; `unproven` is told of each wait that was in vain."""

    def __init__(
        self,
        give: Callable[[Input], None],
        prove: Prove,
        judge: Callable[[int, Any], Input],
        unproven: Callable[[str], None],
    ) -> None:
        self._give = give
        self._prove = prove
        self._judge = judge
        self._unproven = unproven
        self.held: dict[ConversationId, _Held] = {}  # whose answers have to come through here
        self._task: asyncio.Task[None] | None = None
        self._silent = False

    def expect(self, conversation: ConversationId, ticket: int, command: Command | None) -> Provisional:
        """A commit leaves. With a `command` its answer has to be proven by that."""
        self.held.setdefault(conversation, _Held()).awaited += 1
        return Provisional(conversation, ticket, command)

    def answered(self, tag: Provisional, given: Input) -> None:
        """The answer to a commit: it is given at once, or after those before it."""
        held = self.held[tag.conversation]
        held.awaited -= 1
        command = tag.command if isinstance(given, Committed) else None
        held.answers.append(_Answer(given, tag.ticket, command))
        self._advance(tag.conversation, held)
        if command is not None and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run(), name="store proofs")
            self._task.add_done_callback(_tell)

    async def close(self) -> None:
        """Let go. What was held back is never given: the next owner finds the record, or nobody does."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _advance(self, conversation: ConversationId, held: _Held) -> None:
        while held.answers and held.answers[0].command is None:
            self._give(held.answers.popleft().given)
        if not held.answers and not held.awaited:
            del self.held[conversation]

    def _unsettled(self) -> list[tuple[ConversationId, _Answer]]:
        """The oldest of each conversation: those behind it have to wait for it anyhow."""
        found = [(name, held.answers[0]) for name, held in self.held.items() if held.answers]
        return found[:TOGETHER_MAX]

    async def _run(self) -> None:
        while wanted := self._unsettled():
            try:
                answers, proven = await self._prove([each.command for _, each in wanted if each.command is not None])
            except StoreUnavailable:
                await asyncio.sleep(AGAIN_S)
                continue
            self._note(proven=proven)
            for (conversation, each), answer in zip(wanted, answers, strict=True):
                given = self._judge(each.ticket, answer)
                if isinstance(given, Committed) and not proven:
                    continue
                each.given, each.command = given, None
                self._advance(conversation, self.held[conversation])

    def _note(self, *, proven: bool) -> None:
        if not proven:
            self._unproven("origination")
        if proven is self._silent:
            self._silent = not proven
            if proven:
                log.info("store_replica_answers")
            else:
                log.error(
                    "store_replica_silent",
                    detail="no replica acknowledges: calls with an Idempotency-Key wait, for a failover could lose them",
                )


def _tell(task: asyncio.Task[None]) -> None:
    """Nothing of this may go by unseen."""
    if not task.cancelled() and task.exception() is not None:
        log.error("fault", about="store proofs", exc_info=task.exception())
