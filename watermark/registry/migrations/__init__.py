"""Alembic's scripts: how a registry of an older version becomes one of this version."""
