"""What `make docs` writes is what stands in the pages."""

from __future__ import annotations

import tomllib

import pytest

from bridge.config import keys
from tests.docs.generated import COVERAGE, PARTS, STATES, key_table, named, renewed, shown_by
from tests.docs.pages import PAGES, Page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_parts_are_up_to_date(page: Page) -> None:
    assert page.text == renewed(page.text), "run `make docs`"


def test_every_part_stands_somewhere() -> None:
    text = "".join(page.text for page in PAGES)
    for part in PARTS:
        assert text.count(f"<!-- generated: {part} -->\n") == 1


def test_a_part_that_nobody_generates_is_noticed() -> None:
    with pytest.raises(KeyError):
        renewed("<!-- generated: nothing -->\n<!-- end -->\n")


def test_every_key_has_a_row_and_says_what_it_means() -> None:
    rows = [line for line in key_table().splitlines() if line.startswith("| `")]
    assert len(rows) == len(list(keys()))
    assert all(row.split(" | ")[2].strip(" |") for row in rows)


def test_secrets_are_marked_and_nothing_else_is() -> None:
    marked = [row.split("`")[1] for row in key_table().splitlines() if "*secret*" in row]
    assert marked == [
        "store.url",
        "api.keys[].key",
        "cluster.secret",
        "webhooks.secrets",
        "applications[].webhooks[].secrets",
        "users[].password",
        "users[].ha1.md5",
        "users[].ha1.sha_256",
        "users[].ha1.sha_512_256",
        "trunks[].auth.password",
    ]


def test_every_row_of_the_rfcs_says_what_it_should() -> None:
    for rfc in tomllib.loads(COVERAGE.read_text(encoding="utf-8")).values():
        for section, what, state, code, tests, why in rfc["rows"]:
            assert section
            assert what
            assert state in STATES
            assert bool(code and tests) is (state != "not"), "what is there has code and tests, and nothing else has"
            assert why or state == "done", "what is not whole says why"


@pytest.mark.parametrize("code", ["bridge.sip.nothing", "bridge.sip.parser:nothing"])
def test_code_that_is_not_there_is_noticed(code: str) -> None:
    with pytest.raises(LookupError):
        named(code)


@pytest.mark.parametrize("place", ["tests/nothing.py", "tests/docs/test_generated.py::test_nothing"])
def test_a_test_that_is_not_there_is_noticed(place: str) -> None:
    with pytest.raises(LookupError):
        shown_by(place)
