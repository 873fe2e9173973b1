"""Certificates are read again when they should be, whole, and a broken one changes nothing but the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.ambient import SystemClock
from bridge.net.certificates import Certificates, TlsFiles
from bridge.renewal import Renewal
from tests.support.certificates import Authority
from tests.support.waiting import until

Said = list[Any]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def said() -> Any:
    with capture_logs() as said:
        yield said


@pytest.fixture
async def keeping(authority: Authority) -> AsyncIterator[Callable[..., tuple[Renewal, Certificates, list[float]]]]:
    tasks: list[asyncio.Task[None]] = []

    def start(*, look_s: float, **pair: Any) -> tuple[Renewal, Certificates, list[float]]:
        ends: list[float] = []
        certificates = Certificates(TlsFiles((authority.pair(file="live", **pair),)))
        renewal = Renewal(certificates, clock=SystemClock(), expires=ends.append, look_s=look_s)
        tasks.append(asyncio.create_task(renewal.keep()))
        return renewal, certificates, ends

    yield start
    for task in tasks:
        assert not task.done(), task
        task.cancel()


def events(said: Said) -> list[str]:
    return [line["event"] for line in said]


async def test_a_changed_file_is_used_by_itself(authority: Authority, said: Said, keeping: Any) -> None:
    _, certificates, ends = keeping(look_s=0.02)
    before = certificates.loaded
    authority.pair(file="live", expires_in=timedelta(days=60))
    await until(lambda: "certificates_reloaded" in events(said), "it is read")
    assert certificates.loaded is not before
    assert ends[-1] - ends[0] > 29 * 86_400
    assert events(said) == ["certificates_loaded", "certificates_reloaded"]


async def test_a_broken_pair_is_told_once_and_its_repair_is_used(
    authority: Authority, said: Said, keeping: Any
) -> None:
    _, certificates, _ = keeping(look_s=0.02)
    before = certificates.loaded
    (authority.directory / "live.key").write_bytes(authority.pair().key.read_bytes())
    await until(lambda: "certificates_not_reloaded" in events(said), "it is told")
    assert certificates.loaded is before
    assert "sip.tls.key: the key in" in said[-1]["detail"]
    authority.pair(file="live")
    await until(lambda: "certificates_reloaded" in events(said), "the repair is used")
    assert events(said).count("certificates_not_reloaded") == 1


async def test_a_file_that_is_gone_for_a_while_changes_nothing(authority: Authority, said: Said, keeping: Any) -> None:
    _, certificates, _ = keeping(look_s=0.02)
    before = certificates.loaded
    (authority.directory / "live.crt").unlink()
    await until(lambda: "certificates_not_reloaded" in events(said), "it is told")
    assert certificates.loaded is before


async def test_who_asks_does_not_wait_for_a_change(said: Said, keeping: Any) -> None:
    renewal, certificates, _ = keeping(look_s=3600.0)
    before = certificates.loaded
    for times in (1, 2):
        renewal.ask()
        await until(lambda: events(said).count("certificates_reloaded") == times, "it is read")  # noqa: B023
    assert certificates.loaded is not before


@pytest.mark.parametrize(
    ("days", "told"), [(-1, ["certificate_expired"]), (10, ["certificate_expires_soon"]), (20, [])]
)
async def test_an_end_that_is_near_is_told(said: Said, keeping: Any, days: int, told: list[str]) -> None:
    keeping(look_s=3600.0, expires_in=timedelta(days=days))
    assert events(said) == ["certificates_loaded", *told]
