"""A search engine over one's own pictures: an index of folders, and what can be asked of it.

    import unclip

    unclip.search.update("photos")
    index = unclip.search.open("photos")
    for hit in index.query('"a beach" - "people"', top=10):
        print(hit.path, hit.probability)

Here are the two doors; what is behind them is imported when they are opened, because the processes that read
pictures import this package too and need none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unclip.embedding import ClipEmbedder
    from unclip.search.index import Index
    from unclip.search.writer import Summary

__all__ = ["open", "update"]


def open(
    folder: str | Path,
    *,
    model: str | None = None,
    device: str | None = None,
    clip: ClipEmbedder | None = None,
) -> Index:
    """The index of a folder of pictures, to ask things of it while others ask or one writes.

    Args:
        folder: of the pictures, or of the index where it stands elsewhere.
        model: name or folder of the bundle; None is the one that the index was made with. It is loaded when
            it is first needed.
        device: as in `unclip.load`.
        clip: a model that is loaded already, such as `unclip.load().clip`, instead of these two.

    Raises:
        SearchError: there is no index.
    """
    from unclip.search.index import Index

    return Index(Path(folder), model=model, device=device, clip=clip)


def update(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    model: str | None = None,
    device: str | None = None,
    workers: int | None = None,
) -> Summary:
    """Make the index of a folder of pictures, or bring it up to date: see `unclip.search.writer.Writer`.

    Raises:
        InputError: no such folder, or its index cannot be written.
        SearchError: another process writes this index, or it was made with another model.
    """
    from unclip.embedding import ClipEmbedder
    from unclip.search.store import index_of
    from unclip.search.writer import Writer

    place = index_of(Path(folder), Path(out) if out else None)  # what cannot be written is said before
    clip = ClipEmbedder.load(model, device=device)
    run = Writer(Path(folder), clip, model=model, out=place, workers=workers)
    for _ in run.run():
        pass
    return run.summary
