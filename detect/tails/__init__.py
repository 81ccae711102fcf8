"""Null laws into tails of sums: exact where they can be, rigorous bounds elsewhere."""
