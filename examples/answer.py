"""Answers every call to 100, says who is busy, and prints what happens. Run it, then: sip-bridge serve --webhook URL"""

import os

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

SECRET = os.environ.get("WEBHOOK_SECRET")  # what the bridge printed at its first start, or `webhooks.secrets`


async def calls(request: web.Request) -> web.Response:
    body = await request.text()
    if SECRET:
        try:
            Webhook(SECRET).verify(body, dict(request.headers))
        except WebhookVerificationError:
            return web.Response(status=401)
    event = await request.json()
    if "call" not in event["data"]:
        return web.Response()  # a phone has registered, or is gone: `event["data"]["aor"]`
    call = event["data"]["call"]
    print(event["type"], call["id"], "from", call["from"]["uri"], call["ended"] or "", flush=True)
    if event["type"] != "call.incoming":
        return web.Response()  # everything else is only told; the reply is ignored
    if call["to"]["user"] == "100":
        return web.json_response({"actions": [{"action": "ring"}, {"action": "answer"}]})
    return web.json_response({"actions": [{"action": "reject", "code": 486}]})


app = web.Application()
app.router.add_post("/calls", calls)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "3000")), print=None)
