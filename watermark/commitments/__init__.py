"""Commitments: a key and its test plan fixed in public before anybody is tested."""
