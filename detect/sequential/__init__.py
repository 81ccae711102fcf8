"""Tests that may be looked at after every answer: e-processes, and what combines them."""
