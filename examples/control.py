"""Takes its time: parks each call, then answers it by REST, and hangs up after ten seconds."""

import asyncio
import os

from aiohttp import ClientSession, web

API = os.environ.get("BRIDGE_API", "http://127.0.0.1:8080")
KEY = os.environ.get("BRIDGE_KEY", "")
SECONDS = float(os.environ.get("SECONDS", "10"))

tasks: set[asyncio.Task[None]] = set()


async def control(call_id: str) -> None:
    async with ClientSession(headers={"Authorization": f"Bearer {KEY}"} if KEY else {}) as session:
        await asyncio.sleep(1)  # whatever it is that your application has to find out first
        async with session.post(f"{API}/v1/calls/{call_id}/answer", json={}) as answer:
            print("answer", answer.status, await answer.json(), flush=True)
        await asyncio.sleep(SECONDS)
        async with session.delete(f"{API}/v1/calls/{call_id}") as answer:
            print("hang up", answer.status, flush=True)


async def calls(request: web.Request) -> web.Response:
    event = await request.json()
    print(event["type"], flush=True)
    if event["type"] == "call.incoming":
        task = asyncio.create_task(control(event["data"]["call_id"]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    return web.json_response({"actions": [{"action": "park", "timeout_s": 30}]})


app = web.Application()
app.router.add_post("/calls", calls)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "3000")), print=None)
