"""Commands of the detector, one a file; `detect.cli` puts them together."""
