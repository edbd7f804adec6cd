"""Weights of others: one file a foreign format, and `formats`, which lists them."""
