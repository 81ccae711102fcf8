"""Who wrote this: texts and corpora searched for the keys of many accounts."""
