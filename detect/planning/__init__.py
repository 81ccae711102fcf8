"""How many tokens or answers a test needs, before any is spent."""
