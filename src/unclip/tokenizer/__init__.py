"""Text to tokens: our own byte-level BPE, and those of CLIP, DALL-E mini and GLIDE for published weights.

All cut a batch to its longest text and say what they had to leave out. Special tokens written in a text
("<end>") are ordinary text: nobody can end a caption early by typing it.
"""

from __future__ import annotations

from unclip.tokenizer.byte_pairs import BytePairTokenizer
from unclip.tokenizer.clip import (
    CLIP_CONTEXT,
    CLIP_END,
    CLIP_START,
    CLIP_VOCABULARY,
    SHIPPED_VOCABULARY,
    CLIPTokenizer,
)
from unclip.tokenizer.dalle_mini import DalleMiniTokenizer
from unclip.tokenizer.glide import GPT2_FILES, GlideTokenizer
from unclip.tokenizer.tokens import TOKENIZER_FILE, Tokenizer, Tokens

__all__ = [
    "CLIP_CONTEXT",
    "CLIP_END",
    "CLIP_START",
    "CLIP_VOCABULARY",
    "GPT2_FILES",
    "SHIPPED_VOCABULARY",
    "TOKENIZER_FILE",
    "BytePairTokenizer",
    "CLIPTokenizer",
    "DalleMiniTokenizer",
    "GlideTokenizer",
    "Tokenizer",
    "Tokens",
]
