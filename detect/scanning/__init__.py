"""Scans of corpora of any size: shards, workers, restarts, and one exact result."""
