"""Weights on disk: `native` for our own files, one module a foreign format."""
