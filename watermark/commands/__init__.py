"""Commands of the provider's half, a group a file; `watermark.cli` gathers them."""
