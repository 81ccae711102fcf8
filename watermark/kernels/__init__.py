"""Fast twins of `watermark.prf_reference`: numpy, numba and torch, equal bit by bit."""
