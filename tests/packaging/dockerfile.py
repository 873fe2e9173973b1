"""A Dockerfile taken apart: stages, and the instructions of each in order.

Knows what ours uses: continued lines, comments, exec and shell forms, flags. No ARG, no here-documents, no ONBUILD. What else
may be wrong with a Dockerfile is hadolint's to say.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = frozenset(
    [
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "RUN",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ]
)


@dataclass(frozen=True)
class Instruction:
    """One instruction; `text` is all after its name, on one line."""

    name: str
    text: str

    @property
    def flags(self) -> dict[str, str]:
        """`--from=build` as {"from": "build"}."""
        return dict(re.findall(r"--([a-z-]+)=(\S+)", self._flags_and_rest[0]))

    @property
    def rest(self) -> str:
        """`text` without its flags."""
        return self._flags_and_rest[1]

    @property
    def words(self) -> list[str]:
        """The arguments: of the exec form, or as a shell would split them."""
        listed = self.rest.startswith("[")
        words: list[str] = json.loads(self.rest) if listed else shlex.split(self.rest)
        return words

    @property
    def pairs(self) -> dict[str, str]:
        """`A=1 B=2` of ENV and LABEL."""
        return dict(word.split("=", 1) for word in self.words)

    @property
    def command(self) -> list[str]:
        """What a HEALTHCHECK runs."""
        found = self.rest.partition("CMD ")[2]
        words: list[str] = json.loads(found)
        return words

    @property
    def _flags_and_rest(self) -> tuple[str, str]:
        found = re.match(r"((?:--[a-z-]+=\S+\s+)*)(.*)", self.text)
        assert found is not None
        return found[1], found[2]


@dataclass
class Stage:
    """From one FROM to the next."""

    base: str
    name: str | None
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        return [each for each in self.instructions if each.name == name]

    def last(self, name: str) -> Instruction:
        """The one that counts, where a later one replaces an earlier one."""
        return self.all(name)[-1]


def read_stages(path: Path) -> list[Stage]:
    """AssertionError where the file has what this does not know."""
    stages: list[Stage] = []
    for line in _logical_lines(path.read_text(encoding="utf-8")):
        name, _, text = line.partition(" ")
        assert name in KNOWN, line
        instruction = Instruction(name, text.strip())
        if name == "FROM":
            base, _, alias = instruction.text.partition(" AS ")
            stages.append(Stage(base, alias or None))
        else:
            stages[-1].instructions.append(instruction)
    return stages


def _logical_lines(text: str) -> Iterator[str]:
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in kept.replace("\\\n", "").splitlines():
        if line.strip():
            yield line.strip()
