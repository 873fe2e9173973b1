"""Scanners of SIP's grammar."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bridge
from bridge.sip import grammar
from bridge.sip.grammar import MAX_PARAMETERS, REASON_PHRASES, parameters, print_parameters, split_list


@pytest.mark.parametrize("text", ["INVITE", "100rel", "a-.!%*_+`'~", "z9hG4bK"])
def test_a_token(text: str) -> None:
    assert grammar.is_token(text)


@pytest.mark.parametrize("text", ["", "a b", "a:b", "a@b", "ä", "a\n", 'a"', "a;", "a,b"])
def test_no_token(text: str) -> None:
    assert not grammar.is_token(text)


@pytest.mark.parametrize(("text", "answer"), [("0", True), ("0070", True), ("18446744073709551615", True)])
def test_a_number(text: str, answer: bool) -> None:
    assert grammar.is_number(text) is answer


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", " 1", "²", "٣", "1" * 21])
def test_no_number(text: str) -> None:
    assert not grammar.is_number(text)


@pytest.mark.parametrize(
    ("quoted", "plain"),
    [
        ('""', ""),
        ('"Bob"', "Bob"),
        (r'"say \"hi\""', 'say "hi"'),
        (r'"back\\slash"', r"back\slash"),
        (r'"\\\""', '\\"'),
        (r'"\a\\\b"', r"a\b"),
        ("token", "token"),
    ],
)
def test_unquote(quoted: str, plain: str) -> None:
    assert grammar.unquote(quoted) == plain


@pytest.mark.parametrize("text", ["", "Bob", 'say "hi"', "back\\slash", '\\"', "\\\\", "a,b;c<d>"])
def test_quote_is_undone_by_unquote(text: str) -> None:
    assert grammar.unquote(grammar.quote(text)) == text


@pytest.mark.parametrize(
    ("text", "end"),
    [('"a"', 3), ('"a" b', 3), ('"a', -1), (r'"a\"', -1), (r'"a\""', 5), (r'"a\\"x', 5), ('"', -1), ("a", -1)],
)
def test_the_end_of_a_quoted_string(text: str, end: int) -> None:
    assert grammar.quoted_end(text) == end


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        ("sip%3Auser", "sip:user"),
        ("%c3%A4", "ä"),
        ("100%", "100%"),
        ("%Z%45", "%ZE"),
        ("null-%00-null", "null-\0-null"),
        ("%ff", "\udcff"),
    ],
)
def test_unescape(escaped: str, plain: str) -> None:
    assert grammar.unescape(escaped) == plain


def test_bytes_that_are_no_utf8_become_readable() -> None:
    text = b"caf\xe9 \xc3\xa9".decode("utf-8", "surrogateescape")
    assert grammar.readable(text) == "caf� é"
    assert grammar.readable(text).encode() == "caf� é".encode()


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("", []),
        ("  ", []),
        ("a", ["a"]),
        ("a, b\t,c ", ["a", "b", "c"]),
        (",a,,b,", ["a", "b"]),
        ('"x, y" <sip:a@b>, <sip:c,d@e>;q="1,2"', ['"x, y" <sip:a@b>', '<sip:c,d@e>;q="1,2"']),
        (r'"a\",b", c', [r'"a\",b"', "c"]),
        ('"<", b', ['"<"', "b"]),
        ('a, "open, b', ["a", '"open, b']),
        ("a, <open, b", ["a", "<open, b"]),
        ('a, "open\\', ["a", '"open\\']),
    ],
)
def test_split_list(text: str, elements: list[str]) -> None:
    assert split_list(text) == elements


@pytest.mark.parametrize(
    ("text", "first", "rest"),
    [
        ("a", "a", ""),
        ("a , b, c", "a", "b, c"),
        ('"x, y" <sip:a@b> , c', '"x, y" <sip:a@b>', "c"),
        ('"open, c', '"open, c', ""),
        (",a", "", "a"),
    ],
)
def test_first_of_list(text: str, first: str, rest: str) -> None:
    assert grammar.first_of_list(text) == (first, rest)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        (";lr", (("lr", None),)),
        (";Tag=AbC;lr", (("tag", "AbC"), ("lr", None))),
        (" ; a = 1 ;b\t", (("a", "1"), ("b", None))),
        (';x="a;b\\"c"; y', (("x", '"a;b\\"c"'), ("y", None))),
        (";empty=", (("empty", ""),)),
        (";received=2001:db8::1", (("received", "2001:db8::1"),)),
        (";a=b=c", (("a", "b=c"),)),
    ],
)
def test_parameters(text: str, found: grammar.Parameters) -> None:
    assert parameters(text) == found


@pytest.mark.parametrize(
    "text", [";", ";;a", ";a;", ";=1", "a", ' "', ';a="open', ';a="b"c', ";a b", ";a=b c", ";a=<b>", ";a,b", "; ", " "]
)
def test_malformed_parameters(text: str) -> None:
    assert parameters(text) is None


@pytest.mark.parametrize("one", [";a", " ;a", ';a="b"'])
def test_parameters_are_bounded(one: str) -> None:
    found = parameters(one * MAX_PARAMETERS)
    assert found is not None
    assert len(found) == MAX_PARAMETERS
    assert parameters(one * (MAX_PARAMETERS + 1)) is None


def test_parameters_are_printed_as_they_were() -> None:
    text = ';tag=AbC;lr;x="a;b"'
    found = parameters(text)
    assert found is not None
    assert print_parameters(found) == text


def test_reason_phrases_are_fit_for_a_status_line() -> None:
    assert REASON_PHRASES[481] == "Call/Transaction Does Not Exist"
    assert all(100 <= status <= 699 and phrase.isascii() and phrase for status, phrase in REASON_PHRASES.items())


def test_no_group_is_repeated_possessively() -> None:
    """Python before 3.11.5 matches such wrongly where something in the group can be taken back (gh-106052)."""
    package = Path(bridge.__file__).parent
    found = {
        f"{file.relative_to(package)}:{number}"
        for file in package.rglob("*.py")
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if re.search(r"\)(?:[?*+]|\{[0-9,]+\})\+", line) and "re.compile" in file.read_text()
    }
    assert found == set()
