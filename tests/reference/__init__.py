"""Published or naive implementations to compare with."""
