"""Instruments that say how well a bundle draws: see docs/evaluation.md for what each figure means."""
