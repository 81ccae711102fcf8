"""Frozen bits. `python -m tests.vectors.regenerate` rewrites them; a test fails if that matters."""
