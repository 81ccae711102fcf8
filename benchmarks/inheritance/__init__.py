"""The frozen benchmark of inherited watermarks: `python -m benchmarks.inheritance`.

lessons   what the teacher says: answers under one key and scheme each, or under none
grid      the rows: which student learns what, how, and what is done to it afterwards
stages    the folder that keeps what is made, so that a stopped run goes on where it was
students  training, and what a thief does to a student or to its data
asking    what students answer, and their next-token distributions
by_text   the tests by answers, ours and the published one
by_weights  the same by open weights, on the same texts
by_reports  the same by the candidates that an endpoint reports of its answers
by_logs   the ranks of the answers that a student learned, among others that could have been
measuring all tests of a row; what was measured is kept
tiers     how much of the grid a run makes: --tier small for 90 minutes, --tier full
costing   what a tier takes, by the stages' own seconds
planning  what `heirmark power` expected beforehand
traps     rules switched off: innocent suspects that then look guilty
plots     the pictures of docs/inheritance.md
tables    its tables
neutralising  a thief who subtracts, at inference, what training changed
"""
