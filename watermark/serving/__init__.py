"""Marking inside serving engines: one policy for all, one adapter for each engine."""
