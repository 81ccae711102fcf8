"""The investigator's half of heirmark: tests of texts, corpora and suspect models.

Start at `detect.text`, `detect.corpus` and `detect.inheritance`; none of them needs torch.
"""
