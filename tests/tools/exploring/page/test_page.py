"""The page of tools.explore in a browser: filter, scroll, open, play, and the back button."""

import pytest

from tests.exploring_page import (
    open_page,
    require_browser,
    total,
    wait_until,
)

pytestmark = pytest.mark.slow

require_browser()


def test_filter_scroll_open_play_and_back(browser, url):
    with open_page(browser, url) as page:
        assert "token" not in page.url
        everything = total(page)
        assert everything > 50

        value = page.locator(".facet-value").first
        expected = int(value.locator(".count").inner_text())
        value.click()
        page.wait_for_selector(".chip")
        wait_until(page, f"document.querySelector('.total').textContent == '{expected} slices'")
        page.fill("#sql", "slice_no = 0")
        page.press("#sql", "Enter")
        wait_until(page, "document.querySelectorAll('.chip').length == 2")
        assert 0 < total(page) < expected
        page.go_back()
        page.go_back()
        wait_until(page, f"document.querySelector('.total').textContent == '{everything} slices'")

        page.locator(".scroller").evaluate("one => one.scrollTop = one.scrollHeight")
        page.wait_for_selector(f".tile[aria-posinset='{everything}'] .picture.ready")

        page.keyboard.press("Tab")
        page.locator(".tile .open").last.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#slice[open] .picture.large img")
        page.keyboard.press(" ")
        wait_until(page, "document.querySelector('#sound').currentTime > 0.2")
        assert page.locator("#slice .picture.large .cursor").is_visible()
        page.keyboard.press(" ")
        wait_until(page, "document.querySelector('#sound').paused")
        page.wait_for_selector(".timeline .strip-tile.ready")
        page.go_back()
        page.wait_for_selector("#slice:not([open])", state="attached")


def test_a_review_by_keyboard_with_undo(browser, url):
    with open_page(browser, f"{url}&view=review") as page:
        page.fill("[name=annotator]", "ana")
        page.click("#start")
        page.wait_for_selector(".question")
        for key in ("y", "n", "u", "y"):
            page.keyboard.press(key)
        page.keyboard.press("o")
        page.keyboard.type("spec2")
        page.keyboard.press("Enter")
        state = page.locator(".review-state")
        wait_until(page, "document.querySelector('.review-state').dataset.saved == 'true'")
        assert state.inner_text().startswith("5 of")
        page.keyboard.press("z")
        wait_until(page, "document.querySelector('.review-state').dataset.saved == 'true'")
        assert state.inner_text().startswith("4 of")


def test_a_refused_query_is_told_in_a_readable_place(browser, url):
    with open_page(browser, url, refusals=(400,)) as page:
        page.fill("#sql", "nothing_like_this = 1")
        with page.expect_response(lambda answer: answer.status == 400):
            page.press("#sql", "Enter")
        assert "nothing_like_this" in page.locator("[role=alert]").first.inner_text()
