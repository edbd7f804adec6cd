"""A reader of pictures that dies of some of them, as a decoder's fault may end a process."""

from __future__ import annotations

import os

from unclip.search import reading


def read(job: reading.Job) -> reading.Reading:
    if job.path.name.startswith("fatal"):
        os._exit(11)
    return reading.read(job)
