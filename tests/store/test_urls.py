"""What store.url says, and what is said of one that cannot be used."""

from __future__ import annotations

import pytest

from bridge.store.urls import read_store_url


def test_a_plain_one_is_left_to_the_client() -> None:
    for url in ("redis://a/0", "rediss://:secret@a:6380/1?ssl_ca_certs=/ca", "unix:///run/redis.sock?db=2"):
        read = read_store_url(url)
        assert (read.kind, read.server) == ("plain", url)


def test_sentinels_have_their_own_credentials_and_the_servers_options() -> None:
    read = read_store_url(
        "rediss+sentinel://bridge:p%40ss@a:1,[2001:db8::1],c/my%20store/2"
        "?sentinel_username=watch&sentinel_password=w%2Ford&ssl_ca_certs=/ca&client_name=x"
    )
    assert (read.kind, read.name) == ("sentinel", "my store")
    assert read.hosts == (("a", 1), ("2001:db8::1", 26379), ("c", 26379))
    assert read.server == "rediss://bridge:p%40ss@a:1/2?ssl_ca_certs=%2Fca&client_name=x"
    assert read.asked[1] == "rediss://watch:w%2Ford@[2001:db8::1]:26379/0?ssl_ca_certs=%2Fca&client_name=x"


def test_sentinels_are_not_told_the_password_of_the_servers() -> None:
    read = read_store_url("redis+sentinel://:secret@a/b?password=other&db=3")
    assert read.asked == ("redis://a:26379/0",)
    assert read.server == "redis://:secret@a:26379/0?password=other&db=3"


def test_a_cluster_is_asked_as_it_is_written_to() -> None:
    read = read_store_url("redis+cluster://:secret@a,b:7000")
    assert (read.kind, read.hosts) == ("cluster", (("a", 6379), ("b", 7000)))
    assert read.asked == ("redis://:secret@a:6379/0", "redis://:secret@b:7000/0")
    assert read_store_url("redis+cluster://a/0").server == "redis://a:6379/0"


def test_it_prints_without_its_secrets() -> None:
    read = read_store_url("redis+sentinel://:secret@a,b:2/name/1?sentinel_password=word")
    assert str(read) == "redis+sentinel://a:26379,b:2/name"
    assert "secret" not in repr(read)
    assert "word" not in repr(read)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgres://a", "expected embedded://"),
        ("redis", "expected embedded://"),
        ("redis+sentinel://a", "the name that the Sentinels know it by"),
        ("redis+sentinel://a/b/c", "not a number"),
        ("redis+sentinel://a/b/1/2", "not a number"),
        ("redis+sentinel://a,,b/name", "expected host:port,host:port"),
        ("redis+sentinel:///name", "expected host:port,host:port"),
        ("redis+sentinel://a:70000/name", "expected host:port,host:port"),
        ("redis+cluster://a/1", "database 0 only"),
        ("redis+cluster://a?db=1", "database 0 only"),
    ],
)
def test_what_cannot_be_used_is_said(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_store_url(url)


def test_a_complaint_repeats_no_secret() -> None:
    with pytest.raises(ValueError, match="expected host:port") as raised:
        read_store_url("redis+cluster://:s3cret@a:b")
    assert "s3cret" not in str(raised.value)
