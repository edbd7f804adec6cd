"""The DALL-E family as one package."""

__version__ = "0.1.0"
