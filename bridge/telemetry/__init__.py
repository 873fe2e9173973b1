"""What the service shows of itself: metrics (contract §7) and its log. Decides nothing, and nothing depends on it."""
