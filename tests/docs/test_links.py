"""Links lead somewhere, and so do the names of files, keys, options, paths and log lines that the prose mentions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from bridge.config import KEYS_LATER, keys
from bridge.contract.operations import OPERATIONS
from bridge.settings.applications import EVENT_TYPES
from bridge.telemetry.metrics import Metrics
from tests.docs.commands import check_command, make_targets, options_of
from tests.docs.pages import PAGES, ROOT, Page, page, spans

KEYS = {key.name for key in keys()}
SECTIONS = sorted({name.split(".")[0].removesuffix("[]") for name in KEYS if "." in name})
METRICS = {
    name
    for metric in Metrics(endpoints=["desk"]).collect()
    for name in (metric.name, *(sample.name for sample in metric.samples))
}
PATHS = {re.sub(r"\{\w+\}", "{}", operation.path) for operation in OPERATIONS}
SOURCES = [*(ROOT / "bridge").rglob("*.py"), *(ROOT / "bridge").rglob("*.lua")]
CODE = "".join(path.read_text(encoding="utf-8") for path in SOURCES)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pages
def test_links_lead_somewhere(page: Page) -> None:
    for line, target in page.links():
        where = f"{page.name}:{line}: {target}"
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.path.parent / file).resolve() if file else page.path
        assert linked.is_file(), where
        assert linked.is_relative_to(ROOT), where
        if anchor:
            assert anchor in Page(linked).anchors(), where


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, left = set[Path](), [ROOT / "README.md"]
    while left:
        path = left.pop()
        if path not in reached and path.suffix == ".md":
            reached.add(path)
            targets = [target for _, target in Page(path).links() if not target.startswith("https://")]
            left += [
                (path.parent / file).resolve() for file in (target.partition("#")[0] for target in targets) if file
            ]
    assert {page.path for page in PAGES} <= reached


def is_key(word: str) -> bool:
    """A key, a section of keys (`sip.timers.*`), or the end of a key of `applications`, as a page about it writes it."""
    name = word.removesuffix(".*")
    return any(
        key == name or key.startswith(f"{name}.") or (key.startswith("applications[]") and key.endswith(f".{name}"))
        for key in KEYS
    )


def is_variable(word: str) -> bool:
    name = word.partition("=")[0]
    path = name.removeprefix("BRIDGE_").lower().replace("__", ".")
    return name in ("BRIDGE_CONFIG", "BRIDGE_API", "BRIDGE_KEY") or path in KEYS


def is_file(word: str) -> bool:
    return (ROOT / word).exists() or any(str(path).endswith(f"/{word}") for path in SOURCES)


def is_test(word: str) -> bool:
    """A test by its file and its name: `tests/x/test_y.py::test_z`."""
    file, _, name = word.partition("::")
    path = ROOT / file
    return (
        path.is_file()
        and re.search(rf"^(async )?def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE) is not None
    )


def is_path(word: str) -> bool:
    """A path of the API, the beginning of one (`/v1`), or the end of one (`…/ring`)."""
    path = re.sub(r"\{\w+\}", "{}", word)
    if path.startswith("…"):
        return any(each.endswith(path[1:]) for each in PATHS)
    return any(each == path or each.startswith(f"{path}/") for each in PATHS)


def has_option(word: str) -> bool:
    return shlex.split(word)[0] in options_of("serve") | options_of("call") | options_of("doctor") | options_of("drain")


# What a word in backticks that looks like this has to be.
KINDS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "key": (rf"({'|'.join(SECTIONS)})\.[a-z_0-9.*]+", is_key),
    "variable": (r"BRIDGE_\w+(=.*)?", is_variable),
    "option": (r"--[a-z_.]+( .*)?", has_option),
    "event": (r"(call|action)\.[a-z]+", lambda word: word in EVENT_TYPES),
    "metric": (r"bridge_[a-z_]+", lambda word: word in METRICS),
    "file": (r"[\w/.-]+\.(py|lua|md|toml)", is_file),
    "test": (r"tests/[\w/]+\.py::\w+", is_test),
    "directory": (r"(bridge|tests|docs|examples|benchmarks)/[\w/]*", lambda word: (ROOT / word).exists()),
    "path": (r"(…|)/[a-z][\w/{}.]*", is_path),
    "target": (r"make [a-z-]+", lambda word: word.split()[1] in make_targets()),
}
# Look like one of these, and are none.
EXEMPT = {"/run/secrets", "/data", "/tmp"}


@pages
def test_words_in_backticks_are_what_they_look_like(page: Page) -> None:
    for line, word in page.words():
        for kind, (pattern, holds) in KINDS.items():
            if re.fullmatch(pattern, word) and word not in EXEMPT:
                assert holds(word), f"{page.name}:{line}: there is no such {kind}: {word}"
        if word.startswith("sip-bridge "):
            check_command(word)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("key", "media.latch"),
        ("variable", "BRIDGE_SIP_LISTEN"),
        ("option", "--webhok URL"),
        ("event", "call.aswered"),
        ("metric", "bridge_cals"),
        ("file", "bridge/nothing.py"),
        ("test", "tests/chaos/test_node_lost.py::test_nothing"),
        ("directory", "bridge/nothing/"),
        ("path", "/v1/cals"),
        ("path", "…/rng"),
        ("target", "make dem"),
    ],
)
def test_a_wrong_word_is_noticed(kind: str, wrong: str) -> None:
    pattern, holds = KINDS[kind]
    assert re.fullmatch(pattern, wrong)
    assert not holds(wrong)


# Tables whose words are of one kind.


def first_column(of: str, heading: str, first: str) -> Iterator[str]:
    for row in page(of).table(heading, first):
        yield from spans(row[0])


def test_log_lines_are_written_by_the_code() -> None:
    for word in first_column("docs/operations.md", "The log", "line"):
        assert f'"{word}"' in CODE, word


def test_what_is_seen_in_trouble_is_said_by_the_code() -> None:
    said: Iterable[str] = first_column("docs/troubleshooting.md", "When it does not work", "what you see")
    for word in said:
        assert word in CODE, word


def test_keys_of_the_store_are_those_of_the_scripts() -> None:
    store = page("docs/architecture.md").text.partition("## The store")[2].partition("\n## ")[0]
    named = re.findall(r"`([a-z]+):\{\w+\}`|`(calls)`", store)
    assert named
    for prefix, index in named:
        assert f":{prefix}:" in CODE or f":{index}" in CODE, (prefix, index)


def test_keys_of_a_later_release_are_not_documented_as_keys() -> None:
    for each in PAGES:
        for line, word in each.words():
            assert word not in KEYS_LATER, f"{each.name}:{line}: {word}"
