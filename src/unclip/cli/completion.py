"""Words that the shell completes an option to: names of models, samplers, recipes, styles.

`unclip --install-completion` teaches the shell to ask. Nothing here loads torch: an answer takes as long as
`unclip --help`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

Completed = list[tuple[str, str]]  # words, each with a few words about it


def models(incomplete: str) -> Completed:
    """Bundles on disk and published models; a folder is completed by the shell."""
    from unclip.catalogue import PUBLISHED, available_bundles

    on_disk = dict.fromkeys(available_bundles(), "on disk")
    to_fetch = {name: f"to be fetched: unclip pull {name}" for name in PUBLISHED}
    return _matching({**to_fetch, **on_disk}.items(), incomplete)


def published(incomplete: str) -> Completed:
    """Models that can be fetched."""
    from unclip.catalogue import PUBLISHED

    return _matching(((name, model.origin) for name, model in PUBLISHED.items()), incomplete)


def recipes(incomplete: str) -> Completed:
    """Recipes that ship."""
    from unclip.recipes import describe, names

    return _matching(((name, describe(name)) for name in names()), incomplete)


def prompts(incomplete: str) -> Completed:
    """The typed part of a prompt, completed by styles of the shipped bundle behind its last comma."""
    from unclip.data.styles import STYLE_PHRASES

    thing, comma, begun = incomplete.rpartition(",")
    if not comma:
        return []
    phrases = [(name, phrase) for name, found in STYLE_PHRASES.items() for phrase in found["en"]]
    styles = [(phrase.removeprefix("{n}, "), name) for name, phrase in phrases if phrase.startswith("{n}, ")]
    return [(f"{thing}, {style}", name) for style, name in _matching(styles, begun.lstrip())]


def styles(incomplete: str) -> Completed:
    """Styles of the shipped bundle, and "any"."""
    from unclip.data.styles import ANY_STYLE, STYLE_PHRASES

    return _matching(((name, "") for name in (*STYLE_PHRASES, ANY_STYLE)), incomplete)


def words(*choices: str) -> Callable[[str], Completed]:
    """Some words, and no others."""

    def complete(incomplete: str) -> Completed:
        return _matching(((choice, "") for choice in choices), incomplete)

    return complete


def samplers(incomplete: str) -> Completed:
    """Samplers of the decoder."""
    from unclip.diffusion.names import SamplerName

    return _matching(((name, "") for name in SamplerName), incomplete)


def _matching(found: Iterable[tuple[str, str]], incomplete: str) -> Completed:
    return [(str(word), about) for word, about in found if word.startswith(incomplete)]
