"""The investigator's half of heirmark: tests of texts, corpora and suspect models.

Start at `detect.text`, `detect.corpus` and `detect.suspect.inheritance`; none of them needs torch.
"""
