"""Evidence bundles: a test, recorded so that a stranger can run it again, and the check of one."""
