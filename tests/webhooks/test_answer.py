"""Answers from their bytes: RFC 9112, and what a hostile or broken server makes of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.webhooks.answer import BODY_MAX, HEAD_MAX, Answer

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
)


def read(data: bytes, *, end: bool = False) -> Answer:
    answer = Answer()
    done = answer.feed(data)
    if end and not done:
        answer.end()
    else:
        assert done
    return answer


def said(answer: Answer) -> tuple[object, ...]:
    return answer.status, answer.body, answer.error, answer.keep_alive, answer.content_type, answer.location


def test_a_plain_answer() -> None:
    assert said(read(OK)) == (200, b"{}", None, True, "application/json", None)


def test_chunks_and_trailers() -> None:
    assert said(read(CHUNKED))[:4] == (200, b"abc0123456789", None, True)


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    answer = read(b"HTTP/1.1 %d x\r\nContent-Length: 5\r\n\r\n" % status)
    assert (answer.status, answer.body, answer.keep_alive) == (status, b"", True)


def test_interim_answers_are_passed_over() -> None:
    assert said(read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK))[:2] == (
        200,
        b"{}",
    )


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    answer = read(b"HTTP/1.1 200 OK\r\n\r\nall of it", end=True)
    assert said(answer)[:4] == (200, b"all of it", None, False)


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: foo, Close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", True),
    ],
)
def test_when_the_connection_is_kept(head: bytes, kept: bool) -> None:
    assert read(head + b"Content-Length: 0\r\n\r\n").keep_alive is kept


@pytest.mark.parametrize("data", [OK + b"x", CHUNKED + b"x", b"HTTP/1.1 204 x\r\n\r\nx"])
def test_more_than_announced_is_ignored_and_the_connection_not_used_again(data: bytes) -> None:
    answer = read(data)
    assert (answer.error, answer.keep_alive) == (None, False)


def test_a_length_beside_chunks_is_not_believed_nor_the_connection_used_again() -> None:
    answer = read(CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n", 1))
    assert (answer.body, answer.error, answer.keep_alive) == (b"abc0123456789", None, False)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nName : space\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nFolded: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 300,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * HEAD_MAX,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * HEAD_MAX,
    ],
)
def test_what_is_no_http_is_a_value(data: bytes) -> None:
    assert read(data).error == "protocol"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BODY_MAX + 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (BODY_MAX + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n400\r\n" * 70,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n",
    ],
)
def test_an_answer_too_large_is_a_value_with_its_status(data: bytes) -> None:
    data = data.replace(b"\r\n400\r\n" * 70, (b"\r\n400\r\n" + b"x" * 1024) * 70)
    answer = read(data)
    assert (answer.status, answer.error) == (200, "too_large")
    assert len(answer.body) <= BODY_MAX


def test_the_largest_answer_fits() -> None:
    assert len(read(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_MAX + b"x" * BODY_MAX).body) == BODY_MAX


@pytest.mark.parametrize("cut", range(len(OK)))
def test_an_end_too_early_is_a_value(cut: int) -> None:
    answer = Answer()
    assert not answer.feed(OK[:cut]) if cut else True
    answer.end()
    assert (answer.error, answer.silent) == ("closed", cut == 0)
    assert answer.status == (200 if cut >= len(OK) - 2 else None)


@given(st.sampled_from([OK, CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED]), st.lists(st.integers(0, 150)))
def test_it_does_not_matter_how_the_bytes_come(data: bytes, cuts: list[int]) -> None:
    answer, done = Answer(), False
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, stop in pairwise(bounds):
        assert not done
        done = answer.feed(data[start:stop])
    assert done
    assert said(answer) == said(read(data))


@given(st.lists(st.sampled_from([b"HTTP/1.1 200 OK", b"\r\n", b"\r\n\r\n", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"3", b"abc", b"0", b" ", b":", b";", b"\x00", b"\xff"])))  # fmt: skip
def test_nothing_raises_or_grows_without_bound(pieces: list[bytes]) -> None:
    answer = Answer()
    for piece in pieces:
        if answer.feed(piece):
            break
    else:
        answer.end()
    assert len(answer.body) <= BODY_MAX
    assert answer.status is None or 200 <= answer.status <= 999


def test_tiny_chunks_are_read_in_linear_time() -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * BODY_MAX + b"0\r\n\r\n"
    assert read(data).body == b"x" * BODY_MAX
