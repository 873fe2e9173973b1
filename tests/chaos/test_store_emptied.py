"""A Redis that comes back empty is told everything again (survival §1): idle calls, and the secrets that names derive from."""

from __future__ import annotations

import pytest

from tests.chaos.acts import hang_up_all, hold
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.waiting import until, until_awaited

pytestmark = pytest.mark.chaos

HELD = 10


async def test_idle_calls_survive_an_emptied_store_and_then_a_killed_process(scene: Scene) -> None:
    application = await scene.application()
    redis = await scene.redis()
    bridge = await scene.bridge(application, store=redis.url, config={"webhooks": {"schedule": QUICK_SCHEDULE}})
    held = await hold(await scene.caller(bridge), HELD)
    await until(lambda: application.count("call.answered") == HELD, "every call is answered")

    redis.kill()
    await bridge.says("store_away")
    await redis.start()
    await bridge.says("store_back")

    async def all_are_listed() -> bool:
        return len((await bridge.read("/v1/calls"))["data"]) == HELD

    await until_awaited(all_are_listed, "the store knows every call again, though nothing happened to any of them")
    former = bridge.kill_child("signalling")
    await bridge.next_pid_of("signalling", former)
    await bridge.ready()
    assert set(await hang_up_all(held)) == {200}
    await application.all_ended(HELD)
    application.judge()
