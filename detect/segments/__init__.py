"""Which parts of a long, mixed text are marked."""
