"""False positives on text of one's own, counted."""
