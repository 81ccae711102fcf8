"""How much of a corpus is marked: the share of tokens, with its interval."""
