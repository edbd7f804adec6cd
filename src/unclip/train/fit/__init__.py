"""Fitting a finished bundle to a folder of one's own pictures: looked at, planned, trained, reported."""
