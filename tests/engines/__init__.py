"""Other systems' own code as the oracle: each in an environment of its own.

`make engines` builds `.engines/NAME` from `NAME.txt`; where one is missing its tests skip, and say
so. `NAME_oracle.py` runs in that environment: a JSON request on standard input, a JSON reply on
standard output. What it says is also frozen in `tests/vectors/NAME.json`, which the default run
reads.
"""
