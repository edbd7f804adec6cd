"""Tiny models, corpora, servers and pictures that tests share."""
