"""The provider's half of heirmark: keys, marks, and processors that embed them.

Importing it costs nothing: the names below live in `watermark.config`, `watermark.keys` and, with
torch and transformers, `watermark.processor`.
"""
