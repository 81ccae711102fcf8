"""Answers from a model, marked or not: plain, in bulk, and by speculative decoding."""
