"""The console as people see it: in Chromium, dark and light, desktop and phone, keyboard alone."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running_server import Server, null_server

from corral_client import HttpClient

CAT = Path(__file__).parents[1] / "data" / "pictures" / "cat.jpg"
#: the bars of the page
MOST_PAINT_MS, MOST_BYTES = 1000, 150_000
VIEWS: dict[str, Any] = {
    "desktop-light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "desktop-dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone-light": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
    "phone-dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 320, "height": 640}, "color_scheme": "light"},
}
PATIENCE_MS = 20_000
_LARGE = "for (const one of document.querySelectorAll('.tiles b')) one.textContent = '12,345';"


class Tab:
    """A page of the console, and all that the browser complained of."""

    def __init__(self, browser: Any, server: Server, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{server.http_port}/"
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self) -> Any:
        self.page.goto(self.url)
        self.page.wait_for_selector("#drawn [data-worker]")
        return self.page


@contextlib.contextmanager
def tab(browser: Any, server: Server, **options: Any) -> Iterator[Tab]:
    made = Tab(browser, server, **options)
    try:
        yield made
    finally:
        made.context.close()


@contextlib.contextmanager
def load(server: Server) -> Iterator[None]:
    """Somebody asks all the time."""
    over = threading.Event()

    def ask() -> None:
        with HttpClient(f"127.0.0.1:{server.http_port}") as client:
            while not over.wait(0.02):
                client.classify(CAT.read_bytes(), k=1)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()


def until(page: Any, condition: str) -> None:
    """Waits for JavaScript to be true. Playwright's own way is what the page's policy forbids."""
    deadline_s = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline_s, condition
        page.wait_for_timeout(20)


@pytest.mark.parametrize("view", VIEWS)
def test_it_fits_and_nothing_is_amiss(browser: Any, null: Server, view: str) -> None:
    with load(null), tab(browser, null, **VIEWS[view]) as opened:
        page = opened.open()
        until(page, "Number(document.querySelector('#answered').textContent) > 1")
        until(page, "document.querySelector('#workers .fill')")
        paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        assert page.evaluate(paint) <= MOST_PAINT_MS
        received = page.evaluate("performance.getEntriesByType('navigation')[0].decodedBodySize")
        assert 20_000 < received <= MOST_BYTES
        for figures in ("", _LARGE):
            wide = page.evaluate(f"() => {{{figures} return document.documentElement.scrollWidth}}")
            assert wide <= VIEWS[view]["viewport"]["width"]
        assert not opened.said
        # One document, the stream, and nobody else.
        assert set(opened.asked) == {opened.url, f"{opened.url}console/events"}
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 3 * 128) == ("dark" in view)
        assert page.locator("canvas").count() == 3
        assert page.locator("#workers tr").count() == 3
        assert page.locator("#state").inner_text() == "serving"


def test_charts_follow_the_systems_colours(browser: Any, null: Server) -> None:
    with tab(browser, null, color_scheme="light") as opened:
        page = opened.open()
        page.evaluate("document.querySelector('canvas').id = 'before'")
        page.emulate_media(color_scheme="dark")
        until(page, "!document.querySelector('#before')")
        assert page.locator("canvas").count() == 3
        assert not opened.said


def test_a_picture_is_chosen_by_keyboard_alone(browser: Any, null: Server) -> None:
    with tab(browser, null) as opened:
        page = opened.open()
        reached = []
        for _ in range(20):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("document.activeElement.id || document.activeElement.className")
            )
            if reached[-1] == "file":
                break
        assert reached[0] == "skip"
        outline = "getComputedStyle(document.querySelector('#drop')).outlineStyle"
        assert page.evaluate(outline) == "solid"
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Space")
        chooser.value.set_files(CAT)
        page.wait_for_selector("#labels li")
        assert page.locator("#labels li").count() == 5
        assert "ms" in page.locator("#verdict").inner_text()
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.tagName") == "SUMMARY":
                break
        assert page.locator("#doctor").get_attribute("open") is None
        page.keyboard.press("Enter")
        assert page.locator("#doctor").get_attribute("open") is not None
        assert not opened.said


_DROP = """([name, type, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], name, { type }));
  const more = { dataTransfer: dropped, bubbles: true, cancelable: true };
  const event = (kind) => new DragEvent(kind, more);
  document.body.dispatchEvent(event("dragover"));
  document.body.dispatchEvent(event("drop"));
}"""


def test_a_picture_is_dropped_and_what_is_none_is_told_in_words(browser: Any, null: Server) -> None:
    with tab(browser, null) as opened:
        page = opened.open()
        cat = base64.b64encode(CAT.read_bytes()).decode()
        page.evaluate(_DROP, ["cat.jpg", "image/jpeg", cat])
        page.wait_for_selector("#labels li")
        page.wait_for_selector("#stages:not([hidden])")
        stages = page.locator("#stage-bars > * > span:first-child").all_inner_texts()
        assert stages[:2] == ["receive", "admit"]
        assert {"decode", "queue", "copy", "infer", "answer"} < set(stages)
        assert "by worker" in page.locator("#ran").inner_text()
        assert page.locator("#preview").is_visible()
        opened.said.clear()
        text = base64.b64encode(b"<script>alert(1)</script>").decode()
        for kind, told in (("image/jpeg", "picture"), ("text/html", "JPEG or PNG")):
            page.evaluate(_DROP, ["evil", kind, text])
            page.wait_for_selector("#verdict.error")
            assert told in page.locator("#verdict").inner_text()
            assert page.locator("#labels li").count() == 0
            assert page.locator("#stages").is_hidden()
            page.evaluate("document.querySelector('#verdict').className = ''")


def test_what_moves_is_not_read_aloud(browser: Any, null: Server) -> None:
    """A screen reader hears of changes of state, and not of every number."""
    with load(null), tab(browser, null) as opened:
        page = opened.open()
        until(page, "Number(document.querySelector('#answered').textContent) > 1")
        page.evaluate(
            """() => {
              window.heard = 0;
              const look = new MutationObserver((changes) => (window.heard += changes.length));
              const live = "[aria-live],[role=status],[role=alert]";
              for (const place of document.querySelectorAll(live))
                look.observe(place, { subtree: true, childList: true, characterData: true });
            }"""
        )
        before = page.evaluate("document.querySelector('#chart-rate').ariaLabel")
        until(page, f"document.querySelector('#chart-rate').ariaLabel !== {before!r}")
        assert page.evaluate("window.heard") == 0
        assert page.locator("[aria-live=assertive]").count() == 0
        names = page.locator("h1, h2").all_inner_texts()
        assert names[0] == "corral"
        assert page.locator("[role=img]").evaluate_all("all => all.every((one) => one.ariaLabel)")


def test_less_motion_where_it_is_asked_for(browser: Any, null: Server) -> None:
    for wish, moves in (("reduce", False), ("no-preference", True)):
        with tab(browser, null, reduced_motion=wish) as opened:
            page = opened.open()
            page.wait_for_selector("#workers .fill", state="attached")
            took = page.evaluate(
                "getComputedStyle(document.querySelector('#workers .fill')).transitionDuration"
            )
            assert (took != "0s") == moves


def test_a_token_is_asked_for_and_kept_in_the_tab(browser: Any, tmp_path: Path) -> None:
    tokens, token = tmp_path / "tokens", "a-token-of-this-test"
    tokens.write_text(f"{token}\n")
    tokens.chmod(0o600)
    with (
        null_server("--workers", "1", "--auth-token-file", str(tokens)) as server,
        tab(browser, server) as opened,
    ):
        page = opened.page
        assert page.goto(opened.url).status == 401
        # The cursor is in the field.
        page.keyboard.type("not-a-token-of-this-test")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#said').textContent")
        assert page.locator("#said").inner_text() == "This is no valid token."
        page.fill("#token", f" {token} ")
        page.click("button")
        page.wait_for_selector("#drawn [data-worker]")
        assert page.locator("#link").inner_text() == ""
        page.set_input_files("#file", CAT)
        page.wait_for_selector("#labels li")
        page.reload()
        page.wait_for_selector("#drawn [data-worker]")
        # Chromium tells of every 401.
        assert not [said for said in opened.said if "401" not in said]
        # It is taken back: the file is looked at again within a second.
        tokens.write_text("another-token-of-this-test\n")
        page.wait_for_timeout(1500)
        page.reload()
        until(page, "document.querySelector('#said').textContent")
        assert page.locator("#drawn").count() == 0


def test_a_frontend_that_dies_is_told_and_found_again(browser: Any) -> None:
    with null_server("--workers", "1") as server, tab(browser, server) as opened:
        page = opened.open()
        os.kill(server.frontends()[0], signal.SIGKILL)
        until(page, "document.querySelector('#link').textContent.includes('again')")
        until(page, "document.querySelector('#link').textContent === ''")
        until(page, "document.querySelector('#workers').innerText.includes('1 crash')")
        assert page.locator("#state").inner_text() == "serving"


#: notes the widest bar of a worker's use each time that the rows are made anew
NOTE_BARS = """() => {
  window.widest = 0; window.made = 0;
  const rows = document.querySelector("#workers");
  new MutationObserver(() => {
    window.made += 1;
    for (const fill of rows.querySelectorAll(".fill"))
      window.widest = Math.max(window.widest, fill.clientWidth / fill.parentElement.clientWidth);
  }).observe(rows, { childList: true });
}"""


def test_a_worker_that_dies_makes_nobody_look_busy(browser: Any) -> None:
    options = ("--workers", "2", "--oversubscribe")
    with null_server(*options) as server, tab(browser, server) as opened:
        page = opened.open()
        until(page, "document.querySelectorAll('#workers .fill').length === 2")
        page.evaluate(NOTE_BARS)
        os.kill(server.workers()[0], signal.SIGKILL)
        until(page, "document.querySelector('#workers').innerText.includes('1 crash')")
        until(page, "window.made > 0")
        assert page.evaluate("window.widest") < 0.5


def test_a_tab_that_nobody_sees_takes_no_place(browser: Any, null: Server) -> None:
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with tab(browser, null) as opened:
        page = opened.open()
        with page.expect_event("requestfailed") as failed:
            page.evaluate(hide, True)
        assert failed.value.url.endswith("/console/events")
        with page.expect_request("**/console/events"):
            page.evaluate(hide, False)
        until(page, "document.querySelector('#link').textContent === ''")


def test_five_tabs_at_once(browser: Any, null: Server) -> None:
    with contextlib.ExitStack() as stack:
        tabs = [stack.enter_context(tab(browser, null)) for _ in range(5)]
        for opened in tabs:
            opened.open()
        for opened in tabs:
            until(opened.page, "document.querySelector('#use').textContent !== '\u2013'")
            assert not opened.said


def test_a_model_without_pictures_has_no_place_for_one(browser: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from support.ports_model import write_pair

    model = tmp_path / "pair.onnx"
    write_pair(model)
    with (
        null_server("--workers", "1", "--model", str(model)) as server,
        tab(browser, server) as opened,
    ):
        page = opened.open()
        assert page.locator("#try").is_hidden()
        assert page.locator("#no-pictures").is_visible()


def test_a_sigmoids_scores_are_shown_as_they_are(browser: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from support.odd_models import sigmoided

    words = ("--backend", "onnxruntime", "--precision", "fp32", "--cache-dir", str(tmp_path / "c"))
    model = sigmoided(tmp_path / "tags.onnx")
    model.with_suffix(".toml").write_text("[preprocessing]\nresize = 36\nstd = [255, 255, 255]\n")
    with (
        null_server("--workers", "1", *words, "--model", str(model)) as server,
        tab(browser, server) as opened,
    ):
        page = opened.open()
        page.set_input_files("#file", CAT)
        until(page, "document.querySelector('#labels li')?.textContent.includes('%')")
        shown = page.locator("#labels li").all_inner_texts()
        shares = [float(text.split("%")[0].split()[-1]) for text in shown]
        with HttpClient(f"127.0.0.1:{server.http_port}", model="tags") as client:
            scores = [label.score for label in client.classify(CAT, k=4)]
        assert shares == pytest.approx([100 * score for score in scores], abs=0.051)
        assert abs(sum(shares) - 100) > 1
