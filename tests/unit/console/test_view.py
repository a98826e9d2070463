"""What the page is told of a server besides its numbers."""

import html.parser

import msgspec
from support.status_cases import MACHINE, PLACES, cell, status, worker

from corral.console import view
from corral.console.sample import places
from corral.doctor.catalog import examine
from corral.doctor.evidence import Evidence
from corral.doctor.finding import Report, Status
from corral.doctor.layout import running
from corral.ipc.status import Cause, State


def test_a_view_has_the_server_in_words() -> None:
    restarts = dict.fromkeys(Cause, 0) | {Cause.CRASH: 2}
    workers = [worker(0, restarts=restarts), worker(1, cell=1, slot=0, state=State.STARTING)]
    made = view.make(status(workers=workers), "reload", None, None)
    assert (made.phase, made.ready, made.change) == ("serving", True, "reload")
    assert (made.engine, made.precision, made.mode) == ("OpenVINO 2026.4", "int8", "rti")
    assert (made.grpc, made.metrics) == ("127.0.0.1:8001", "[::1]:8002")
    first, second = made.workers
    assert (first.state, first.cpus, first.restarts) == ("serving", "0", {"crash": 2})
    assert (first.first_s, first.memory_bytes) == (0.020, 250 * 2**20)
    assert (second.state, second.restarts) == ("starting", {})
    assert [front.id for front in made.frontends] == [0, 1]
    assert made.drawn == ""
    assert made.found is None


def test_a_view_tells_no_pid_and_not_where_the_socket_lies() -> None:
    text = msgspec.json.encode(view.make(status(), None, MACHINE, None)).decode()
    for secret in ("4711", "4712", "3000", "3001", "8001.sock"):
        assert secret not in text


def test_a_view_says_where_counters_lie() -> None:
    assert places(msgspec.json.encode(view.make(status(), None, None, None))) == PLACES
    assert view.places_of(status()) == PLACES


def report() -> Report:
    """Something worth knowing, and a great deal that is not known."""
    made = examine(Evidence(machine=MACHINE, layout=running(status()), texts={}))
    assert made.of(Status.INFO)
    return made


class Tags(html.parser.HTMLParser):
    """Counts tags, and what is open at the end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.classes: list[str] = []
        self.whose: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"div", "span", "p", "s", "a", "b", "code", "dl", "dt", "dd"}
        self.open.append(tag)
        for name, value in attrs:
            assert name in {"class", "title", "href", "data-worker", "id"}
            if name == "class":
                self.classes += (value or "").split()
            if name == "data-worker":
                self.whose.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_machine_is_drawn_as_it_is() -> None:
    drawn = Tags(view.make(status(), None, MACHINE, None).drawn)
    assert not drawn.open
    parts = {name: drawn.classes.count(name) for name in ("package", "node", "l3", "core", "cpu")}
    assert parts == {"package": 2, "node": 2, "l3": 2, "core": 4, "cpu": 8}
    assert drawn.whose == ["0", "1"]
    # One of the legend's.
    assert drawn.classes.count("front") == 2


def test_what_the_doctor_found_is_told_and_what_is_in_order_is_not() -> None:
    told = report()
    found = view.make(status(), None, MACHINE, told).found
    assert found is not None
    urgent = told.of(Status.ERROR, Status.WARNING, Status.INFO)
    assert sum(found.counts.values()) == len(urgent)
    assert found.findings.count('class="card"') == len(urgent)
    assert not Tags(found.findings).open
    assert all(f'id="{f.id}"' in found.findings for f in urgent)


def test_what_a_machine_calls_itself_becomes_no_markup() -> None:
    evil = "<script>alert(1)</script>"
    warned = status(warnings=[evil], weights=evil, cells=[cell(0)])
    told = report()
    finding = msgspec.structs.replace(
        told.checks[0], status=Status.WARNING, title=evil, found=evil, workers=[]
    )
    odd = msgspec.structs.replace(told, checks=[finding])
    made = view.make(warned, None, MACHINE, odd)
    assert evil not in made.drawn
    assert made.found is not None
    assert evil not in made.found.findings
