"""The investigator's half of heirmark: tests of texts, corpora and suspect models.

Start at `detect.text`, `detect.corpus`, and for suspects at `detect.suspect.inheritance` and
`detect.suspect.distributions`; none of them needs torch.
"""
