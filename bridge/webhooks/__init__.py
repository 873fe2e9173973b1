"""Webhooks on the wire: sign, POST, tell the outcome, and nothing else. What is sent when is `bridge.outbox`'s."""
