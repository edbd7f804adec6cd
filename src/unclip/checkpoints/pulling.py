"""A published model made ready: its files are fetched, and a bundle is made of them."""

from __future__ import annotations

from collections.abc import Iterator

from unclip.bundle import check_folder
from unclip.catalogue import Published
from unclip.checkpoints.download import Transfer, discard, fetch, opened
from unclip.checkpoints.formats import Step, convert
from unclip.runtime import check_writable


def pull(model: Published, *, dtype: str | None = None, keep: bool = False) -> Iterator[Transfer | Step]:
    """Fetch a published model and make the bundle that is then loaded by its name.

    What has come stays where reading stops: the next call goes on from there.

    Args:
        model: of the catalogue.
        dtype: what matrices are stored in; None keeps what the files have.
        keep: whether the published files stay beside the bundle.

    Raises:
        BundleError, InputError: the folder of the bundle cannot be written, or holds other things.
        DownloadError, CheckpointError: as of `fetch` and `convert`.
    """
    check_folder(model.bundle_folder)
    check_writable(model.download_folder)
    yield from fetch(model)
    yield from convert(
        opened(model),
        model.bundle_folder,
        format=model.format,
        name=model.name,
        dtype=dtype,
        licence=model.licence,
        origin=model.page,
    )
    if not keep:
        discard(model)
