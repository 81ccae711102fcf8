"""Whose key: which account wrote a text, which cohort or epoch a model learned from."""
