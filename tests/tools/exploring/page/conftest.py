"""A served store of synthetic birdsong and a browser, for the tests of the page."""

import pytest

from tests.exploring_page import build_folder, open_browser, serve


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Source, store, predictions; reviews of one module of tests."""
    return build_folder(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def url(folder):
    """Address of the page with its token."""
    with serve(folder) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    with open_browser() as browser:
        yield browser
