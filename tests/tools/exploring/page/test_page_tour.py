"""The page of tools.explore in a browser: neighbours, files, map, scores, review, export."""

import base64
import csv
import io
import re
from pathlib import Path

import pytest

from tests.exploring_page import (
    goto,
    open_page,
    require_browser,
    total,
    wait_until,
    write_call,
)

pytestmark = pytest.mark.slow

require_browser()

DROP = """([name, text]) => {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], name, { type: "audio/wav" }));
  for (const kind of ["dragover", "drop"]) {
    dispatchEvent(new DragEvent(kind, { dataTransfer: files, cancelable: true, bubbles: true }));
  }
}"""


def read_csv(download) -> list[dict[str, str]]:
    """The lines of a csv file that was saved."""
    return list(csv.DictReader(io.StringIO(Path(download.path()).read_text(encoding="utf-8"))))


def test_neighbours_of_a_slice_and_of_its_recording_are_others(browser, url):
    with open_page(browser, url) as page:
        page.locator(".tile .open").first.click()
        page.wait_for_selector(".neighbour .picture.ready", timeout=60_000)
        row = re.search(r"row=(\d+)", page.url).group(1)
        page.keyboard.press("s")
        page.wait_for_selector(".chip:has-text('Sounds like')")
        assert total(page) > 8
        page.wait_for_selector(".tile .badge")
        assert page.locator(f".tile[data-row='{row}']").count() == 0
        badges = page.locator(".tile .line:first-child .badge").all_inner_texts()
        shown = [float(badge) for badge in badges]
        assert shown == sorted(shown, reverse=True)
        page.go_back()
        page.wait_for_selector("#slice[open]")
        assert page.locator(".timeline .lane .span").count() > 0


def test_a_dropped_file_finds_slices_like_it(browser, url, tmp_path):
    call = write_call(tmp_path / "call.wav")
    with open_page(browser, url) as page:
        page.evaluate(DROP, [call.name, base64.b64encode(call.read_bytes()).decode()])
        page.wait_for_selector(".chip:has-text('the dropped file')", timeout=60_000)
        page.wait_for_selector(".tile .picture.ready")
        assert "like=upload" in page.url
        assert total(page) > 20


def test_a_lasso_on_the_map_shows_its_slices_in_the_grid(browser, url):
    with open_page(browser, url) as page:
        everything = total(page)
        page.keyboard.press("m")
        page.wait_for_selector(".legend-entry", timeout=60_000)
        box = page.locator(".map-place canvas").bounding_box()
        middle_x, middle_y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        side = box["height"] / 4
        page.mouse.move(middle_x - side, middle_y - side)
        page.mouse.down()
        for x, y in ((1, -1), (1, 1), (-1, 1), (-1, -0.9)):
            page.mouse.move(middle_x + x * side, middle_y + y * side, steps=8)
        page.mouse.up()
        page.wait_for_selector(".chip:has-text('lasso')")
        assert 0 < total(page) < everything
        page.go_back()
        page.wait_for_selector(".map-place canvas")
        page.focus(".map-place canvas")
        page.keyboard.press("Enter")  # all that is in sight
        page.wait_for_selector(".chip:has-text('lasso')")
        assert total(page) == everything


def test_the_map_follows_the_filters(browser, url):
    with open_page(browser, f"{url}&is=primary_label:spec1") as page:
        some = total(page)
        page.keyboard.press("m")
        said = page.locator(".map p.muted")
        wait_until(
            page, f"document.querySelector('.map p.muted')?.textContent.startsWith('{some} of')"
        )
        page.focus(".map-place canvas")
        page.keyboard.press("Enter")  # all that is in sight, of those that pass
        page.wait_for_selector(".chip:has-text('lasso')")
        assert total(page) == some
        page.keyboard.press("m")
        page.locator(".map .chip:has-text('lasso')").click()
        page.locator(".map .chip").click()
        wait_until(page, "!document.querySelector('.map p.muted').textContent.includes(' of ')")
        assert said.inner_text().endswith("slices")


def test_the_scores_of_a_class_and_slices_at_a_score(browser, url):
    with open_page(browser, f"{url}&view=scores&class=spec1&target=0.2") as page:
        page.wait_for_selector(".histogram-bars i")
        page.wait_for_selector(".tile .badge")
        shown = float(page.locator(".tile[aria-posinset='1'] .badge").first.inner_text())
        assert abs(shown - 0.2) < 0.1
        box = page.locator(".histogram-bars").bounding_box()
        page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + 40)
        wait_until(page, "location.search.includes('target=0.9')")
        first = "document.querySelector('.tile[aria-posinset=\"1\"] .badge')"
        wait_until(page, f"Number({first}?.textContent) > 0.6")


def test_errors_come_first_and_two_experiments_are_compared(browser, url):
    with open_page(browser, f"{url}&view=errors") as page:
        page.wait_for_selector(".tile .caption")
        assert page.locator(".tile[aria-posinset='1'] .caption").inner_text().count("→") == 1
        page.wait_for_selector(".outcome")
        only = page.locator(".outcome").nth(1)
        expected = int(only.locator("b").inner_text())
        only.click()
        wait_until(page, "document.querySelectorAll('.chip').length == 1")
        assert total(page) == expected


def test_twenty_items_are_reviewed_by_keyboard_and_exported(browser, url, folder):
    goto_review = f"{url}&view=review"
    with open_page(browser, goto_review) as page:
        page.fill("[name=annotator]", "bo")
        page.fill("[name=count]", "20")
        page.press("[name=count]", "Enter")
        page.wait_for_selector(".question")
        for number in range(20):
            if number % 5 == 4:
                page.keyboard.press("o")
                page.keyboard.type("spec")
                page.keyboard.press("ArrowDown")
                page.keyboard.press("Enter")
            else:
                page.keyboard.press("ynu"[number % 3])
        page.wait_for_selector(".review-end")
        page.keyboard.press("z")
        page.wait_for_selector(".question")
        page.keyboard.press("n")
        page.wait_for_selector(".review-end")
        wait_until(page, "document.querySelector('.review-state').dataset.saved == 'true'")
        with page.expect_download() as waiting:
            page.click(".review-end .links a:has-text('CSV')")
        lines = read_csv(waiting.value)
        own = [line for line in lines if line["annotator"] == "bo"]
        assert len(own) == 20
        with page.expect_download() as waiting:
            page.click(".review-end .links a:has-text('train.csv')")
        assert all(line["primary_label"] for line in read_csv(waiting.value))
        page.reload()
        page.wait_for_selector(".review-end")
        goto(page, url, "?view=review")
        page.wait_for_selector(".progress table")
        assert "bo" in page.locator(".progress").inner_text()


def test_the_slices_that_are_shown_are_exported(browser, url):
    with open_page(browser, f"{url}&where=slice_no%20%3D%200") as page:
        expected = total(page)
        page.click("#export")
        with page.expect_download() as waiting:
            page.click(".menu-list a >> nth=0")
        assert waiting.value.suggested_filename.endswith(".csv")
        lines = read_csv(waiting.value)
        assert len(lines) == expected


def test_the_keyboard_alone_reaches_everything(browser, url):
    with open_page(browser, url) as page:
        for key, view in (("m", "map"), ("c", "scores"), ("e", "errors"), ("v", "review")):
            page.keyboard.press(key)
            wait_until(page, f"location.search.includes('view={view}')")
        page.keyboard.press("g")
        page.wait_for_selector(".tile .picture.ready")
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "sql"
        page.locator("#sql").blur()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_selector("#slice[open] .dialog-title")
        first = page.url
        page.keyboard.press("ArrowRight")
        wait_until(page, f"location.href != '{first}'")
        page.keyboard.press("Escape")
        page.wait_for_selector("#slice:not([open])", state="attached")
        assert page.evaluate("document.activeElement.className") == "open"
        before = page.evaluate("getComputedStyle(document.body).color")
        page.keyboard.press("d")
        assert page.evaluate("getComputedStyle(document.body).color") != before
