"""The pages of tune, profile and doctor in Chromium: they fit, ask nobody, and run nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.machines import ARCHIVES

from corral.cli.main import run
from corral.profiling import page as profile_page
from corral.profiling.report import Budget, ProfileReport, Span
from corral.slo import page as tune_page
from corral.slo.report import TuneReport, Winner

#: what a name or a note may hold, longer than a phone is wide
_NAME = "<img src=http://127.0.0.1:9/x onerror=console.error(1)> and so on, at some length " * 2


def _tuned() -> str:
    winner = Winner(
        settings={"model": _NAME}, name=_NAME, rate=30.0, rate_interval=[0.0, 30.0], p99_ms=None,
        p99_interval_ms=None, p50_ms=None, idle_p50_ms=11.0, confirmed=False,
    )  # fmt: skip
    return tune_page.render(
        TuneReport(
            p99_ms=50.0,
            model=_NAME,
            cpu=_NAME,
            arrivals=_NAME,
            winner=winner,
            notes=[_NAME],
            not_tried=[_NAME],
            space={"engines": [_NAME]},
        )
    )


def _profiled() -> str:
    span = Span(name=_NAME, p50_us=1.0, p99_us=2.0, mean_us=1.0)
    budget = Budget(requests=1, phases=[span] * 8, total=span, client=span, dropped=0)
    return profile_page.render(
        ProfileReport(
            cpu=_NAME,
            model=_NAME,
            mode="rti",
            served_by=_NAME,
            workers=1,
            seconds=1.0,
            budget=budget,
            notes=[_NAME],
        )
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {name: folder / f"{name}.html" for name in ("tune", "profile", "doctor")}
    found["tune"].write_text(_tuned())
    found["profile"].write_text(_profiled())
    machine = str(ARCHIVES / "16em64t-4s2c2t-offlines.tar.bz2")
    run(["doctor", "--sysfs", machine, "--html", str(found["doctor"])], {"HOME": str(folder)})
    return found


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["tune", "profile", "doctor"])
def test_a_page_fits_and_asks_nobody(
    browser: Any, pages: dict[str, Path], name: str, scheme: str, width: int
) -> None:
    said: list[str] = []
    asked: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[name].as_uri())
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") == 0
    assert (said, asked) == ([], [pages[name].as_uri()])
    page.close()
