"""Webhook deliveries without I/O: per (call, endpoint) in order, one in flight, retried on a schedule."""
