"""The stages that drawing is composed of: each takes a batch and returns it with more in it."""
