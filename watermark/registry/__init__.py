"""The registry: who was served under which derived key, when, and with which config.

It holds no secrets: key ids, labels and commitments only. The package is imported by the commands
that need it, since SQLAlchemy comes with an extra.
"""
