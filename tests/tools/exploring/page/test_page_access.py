"""The page of tools.explore for people with screen readers: axe finds nothing serious."""

import pytest

from tests.exploring_page import open_page, require_browser

pytestmark = pytest.mark.slow

require_browser()

VIEWS = {
    "grid": ("", ".tile .picture.ready"),
    "filtered": ("&is=primary_label:spec1&where=max_db%20%3C%20100", ".chip"),
    "slice": ("&range=row:0:0", ".tile .picture.ready"),
    "map": ("&view=map", ".legend-entry"),
    "scores": ("&view=scores&class=spec1", ".histogram-bars i"),
    "errors": ("&view=errors", ".outcome"),
    "review": ("&view=review", ".queue-form"),
    "item": ("&view=review&queue=1&of=labels&order=random&count=5", ".question"),
}
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("view", VIEWS)
def test_no_serious_violation(browser, url, view, size, scheme):
    from axe_core_python.sync_playwright import Axe

    query, ready = VIEWS[view]
    width, height = SIZES[size]
    with open_page(browser, url + query, scheme=scheme, width=width, height=height) as page:
        page.wait_for_selector(ready, timeout=60_000, state="attached")
        if view == "slice":
            page.locator(".tile .open").first.click()
            page.wait_for_selector(".neighbour .picture.ready", timeout=60_000)
        found = Axe().run(page)["violations"]
        serious = [
            (one["id"], [node["html"] for node in one["nodes"]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_narrow_page_does_not_scroll_sideways(browser, url, view):
    query, ready = VIEWS[view]
    with open_page(browser, url + query, width=390, height=844) as page:
        page.wait_for_selector(ready, timeout=60_000, state="attached")
        if view == "slice":
            page.locator(".tile .open").first.click()
            page.wait_for_selector(".timeline .strip-tile.ready")
        for part in ("document.documentElement", "document.querySelector('.slice-body')"):
            overflow = page.evaluate(f"{part} ? {part}.scrollWidth - {part}.clientWidth : 0")
            assert overflow <= 0
