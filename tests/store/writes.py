"""Short ways to say what a node writes, and to hear what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bridge.calls.facts import CallId, ConversationId
from bridge.engine.commit import Ack, CallWrite, Claim, Commit, Ending, EventWrite
from bridge.engine.inputs import CommitRefused, Committed, Input
from bridge.store import Store

CONVERSATION = ConversationId("conv_a")
CALL = CallId("call_a")
OWNER = "n1:aaa"
NONCE = "m"


def commit(
    version: int,
    *,
    epoch: int = 1,
    nonce: str = NONCE,
    owner: str = OWNER,
    conversation: str = CONVERSATION,
    call: str = CALL,
    created_ms: int = 1000,
    events: tuple[int, ...] = (),
    acks: tuple[Ack, ...] = (),
    ends: bool = False,
    whole: bool = False,
    claim: Claim | None = None,
    ticket: int = 0,
) -> Commit:
    """A write of a conversation with one call, whose every byte tells which write it was."""
    name = CallId(call)
    tale = f"{epoch}{nonce}{version}".encode()
    fixed = b"fixed " + tale if version == 1 or whole else None
    return Commit(
        ticket=ticket,
        conversation=ConversationId(conversation),
        epoch=epoch,
        nonce=nonce,
        version=version,
        owner=owner,
        head=b"head " + tale,
        calls=(CallWrite(name, created_ms, fixed=fixed, variable=b"variable " + tale),),
        events=tuple(EventWrite(name, sequence, b"event %d" % sequence) for sequence in events),
        acks=acks,
        endings=(Ending(name, b'{"ended": "%b"}' % tale),) if ends else (),
        whole=whole,
        claim=claim,
    )


class Inbox:
    """What a store gives, and a way to wait for it."""

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def give(self, given: Input) -> None:
        self.inputs.append(given)
        for holds, future in self._waiting:
            if not future.done() and holds():
                future.set_result(None)

    async def until(self, holds: Callable[[], bool]) -> None:
        if not holds():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((holds, future))
            async with asyncio.timeout(15):
                await future

    async def holds(self, *expected: Input) -> None:
        await self.until(lambda: all(one in self.inputs for one in expected))

    def answers(self) -> list[Committed | CommitRefused]:
        return [given for given in self.inputs if isinstance(given, Committed | CommitRefused)]


class Node:
    """A store and what came out of it."""

    def __init__(self, store: Store, inbox: Inbox) -> None:
        self.store = store
        self.inbox = inbox
        self._tickets = 0

    def ticket(self) -> int:
        self._tickets += 1
        return self._tickets

    async def write(self, made: Commit) -> str:
        """Commit, and wait: "applied", or why not."""
        (outcome,) = await self.write_all([made])
        return outcome

    async def write_all(self, made: list[Commit]) -> list[str]:
        """All in one turn of the loop. Answers of different conversations may overtake each other."""
        made = [one if one.ticket else one._replace(ticket=self.ticket()) for one in made]
        before = len(self.inbox.answers())
        for one in made:
            self.store.commit(one)
        await self.inbox.until(lambda: len(self.inbox.answers()) >= before + len(made))
        answers = {answer.ticket: answer for answer in self.inbox.answers()[before:]}
        return [
            answer.why if isinstance(answer, CommitRefused) else "applied"
            for answer in (answers[one.ticket] for one in made)
        ]
