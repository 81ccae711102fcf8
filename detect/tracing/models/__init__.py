"""Which cohort or epoch a suspect model learned from, and whether a leak would explain it."""
