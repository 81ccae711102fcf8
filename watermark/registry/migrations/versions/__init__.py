"""One file a version of the tables. Files of released versions are never edited."""
