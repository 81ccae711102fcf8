"""GGUF files as models that transformers can load."""
