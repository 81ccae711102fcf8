"""What Alembic runs before the versions' scripts; see `watermark.registry.upgrading`."""

from __future__ import annotations

from alembic import context

from watermark.registry.tables import metadata

# The connection is in a transaction already, under a lock: all of an upgrade or none.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=context.config.attributes["version_table"],
)
context.run_migrations()
