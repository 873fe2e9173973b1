"""Markdown pages taken apart, as far as the tests ask: fenced blocks, tables, links, headings, words in backticks.

Knows the Markdown of these pages, not all of it: no nested fences, no links by reference, no setext headings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

_FENCE = re.compile(r"^```(\S*)\s*$")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_WORD = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str  # "docs/rest.md"
    line: int  # of its first line of text
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


class Page:
    """One Markdown file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text(encoding="utf-8")
        self.blocks: list[Block] = []
        self.prose: list[tuple[int, str]] = []  # the lines outside of blocks, with their numbers
        self._read()

    def _read(self) -> None:
        language, begun, held = "", 0, list[str]()
        for number, line in enumerate(self.text.splitlines(), 1):
            fence = _FENCE.match(line)
            if begun and fence:
                self.blocks.append(Block(self.name, begun, language, "".join(f"{each}\n" for each in held)))
                begun, held = 0, []
            elif begun:
                held.append(line)
            elif fence:
                language, begun = fence[1], number + 1
            else:
                self.prose.append((number, line))
        assert not begun, f"{self.name}: the block that begins in line {begun} does not end"

    def links(self) -> Iterator[tuple[int, str]]:
        """Every link's target, with its line."""
        for number, line in self.prose:
            for target in _LINK.findall(line):
                yield number, target

    def words(self) -> Iterator[tuple[int, str]]:
        """Everything in backticks outside of blocks, with its line."""
        for number, line in self.prose:
            for word in _WORD.findall(line):
                yield number, word

    def anchors(self) -> set[str]:
        """What `#…` may name: the headings, as GitHub spells them."""
        found: set[str] = set()
        for _, line in self.prose:
            if line.startswith("#"):
                slug = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
                assert slug not in found, f"{self.name}: two headings are called {line}"
                found.add(slug)
        return found

    def table(self, heading: str, first: str) -> list[list[str]]:
        """The rows of the table under this heading whose first column is called `first`, without head and rule."""
        lines = [line for _, line in self.prose]
        start = next(at for at, line in enumerate(lines) if line.startswith("#") and line.lstrip("# ") == heading)
        rows: list[list[str]] = []
        for line in lines[start + 1 :]:
            if line.startswith("#"):
                break
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
            if not rows:
                rows = [cells] if cells and cells[0] == first else []
            elif cells:
                rows.append(cells)
            else:
                break
        assert len(rows) > 2, f"{self.name}: no table with `{first}` under {heading}"
        return rows[2:]


def spans(cell: str) -> list[str]:
    """What a table's cell has in backticks."""
    return _WORD.findall(cell)


PAGES = [
    Page(path)
    for path in [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "helm/README.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
]
BLOCKS = [block for page in PAGES for block in page.blocks]


def page(name: str) -> Page:
    """The page of this name: "docs/rest.md"."""
    return next(each for each in PAGES if each.name == name)


def blocks(*languages: str) -> list[Block]:
    """All blocks in one of these languages."""
    return [block for block in BLOCKS if block.language in languages]
