"""The page as it is sent: its size, its policy, and that nothing of it comes from elsewhere."""

import base64
import gzip
import hashlib
import re

import pytest

from corral.console import page
from corral.console.page import Page

#: bytes of everything that the page consists of, unpacked
MOST_BYTES = 150_000
PAGES = {
    "console": page.console(),
    "sign in": page.sign_in(),
    "refused": page.refused("you <b>may</b> not"),
}


def policy(made: Page) -> dict[str, list[str]]:
    text = dict(made.fields)[b"content-security-policy"].decode()
    parts = [part.split() for part in text.split(";")]
    return {name: words for name, *words in parts}


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_everything_is_small() -> None:
    assert len(PAGES["console"].body) <= MOST_BYTES
    assert len(PAGES["console"].packed) <= MOST_BYTES / 3
    assert len(PAGES["sign in"].body) <= 20_000


@pytest.mark.parametrize("name", PAGES)
def test_the_policy_lets_the_pages_own_scripts_run_and_no_other(name: str) -> None:
    made, text = PAGES[name], PAGES[name].body.decode()
    allowed = policy(made)
    assert allowed["default-src"] == ["'none'"]
    assert allowed["connect-src"] == ["'self'"]
    assert allowed["frame-ancestors"] == ["'none'"]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == {"console": 3, "sign in": 1, "refused": 0}[name]
    assert {digest(script) for script in scripts} <= set(allowed["script-src"])
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert allowed["style-src"] == [digest(style)]
    assert not [word for words in allowed.values() for word in words if "unsafe" in word]


@pytest.mark.parametrize("name", PAGES)
def test_nothing_comes_from_elsewhere_and_nothing_runs_from_an_attribute(name: str) -> None:
    text = PAGES[name].body.decode()
    markup = re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL)
    assert not re.search(r"""\s(on\w+|style|src)=""", markup)
    assert not re.search(r"""(href|src|action)=["']?(https?:)?//""", text)
    assert "@import" not in text
    assert "url(" not in text


def test_the_page_that_asks_for_a_token_may_become_the_console() -> None:
    sign_in, console = policy(PAGES["sign in"]), policy(PAGES["console"])
    scripts = re.findall(r"<script>(.*?)</script>", PAGES["console"].body.decode(), re.DOTALL)
    assert {digest(script) for script in scripts} <= set(sign_in["script-src"])
    assert sign_in["style-src"] == console["style-src"]


def test_a_refusal_is_text() -> None:
    assert b"you &lt;b&gt;may&lt;/b&gt; not" in PAGES["refused"].body


@pytest.mark.parametrize("name", PAGES)
def test_the_packed_form_is_the_page(name: str) -> None:
    assert gzip.decompress(PAGES[name].packed) == PAGES[name].body


def test_the_charts_library_is_whole_and_has_its_licence() -> None:
    licence = page.file("uplot.LICENSE")
    assert "The MIT License" in licence
    assert "Leon Sorokin" in licence
    assert page.file("uplot.js").startswith("/*! https://github.com/leeoniya/uPlot (v1.")
