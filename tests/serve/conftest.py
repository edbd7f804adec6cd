"""Fixtures of the journeys on the page: a browser, what it keeps, and the studio of the module's server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    from support.serving import Running

# The browser's library is imported by those tests alone that want it.


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Browser]:
    from support.browsing import browser

    with browser() as started:
        yield started


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A person's own browser: nothing of another test's is in it."""
    from support.browsing import person

    with person(browser) as context:
        yield context


@pytest.fixture
def page(server: Running, context: BrowserContext) -> Iterator[Page]:
    """The studio of the module's server."""
    from support.browsing import studio

    with studio(context, server.url) as page:
        yield page
