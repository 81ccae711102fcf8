"""Who of 25,000 accounts wrote it: how fast, how surely, and never an innocent one?"""
