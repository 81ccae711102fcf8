"""Files in and out: whole or not at all, owner-only where secret, one way to write JSON."""
