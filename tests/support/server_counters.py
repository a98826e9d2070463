"""A server's counters, read like Prometheus reads them: at one moment, and while time passes."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from support.repeated_look import RepeatedLook

#: types whose samples never go down
_MONOTONIC = {"counter", "histogram"}


class Scrape:
    """One reading of /metrics. Counters' names end in ``_total``, whatever the server calls them.

    Attributes:
        at_s: when it was asked for, on the monotonic clock.
    """

    def __init__(self, metrics_port: int, token: str | None = None) -> None:
        self.at_s = time.monotonic()
        fields = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{metrics_port}/metrics"
        asked = urllib.request.Request(url, headers=fields)  # of this machine
        with urllib.request.urlopen(asked, timeout=10) as response:
            text = response.read().decode()
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._monotonic: set[str] = set()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._values[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
                if family.type in _MONOTONIC:
                    self._monotonic.add(sample.name)

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; KeyError when there is none."""
        wanted = labels.items()
        found = [
            value
            for (sample, has), value in self._values.items()
            if sample == name and wanted <= dict(has).items()
        ]
        if not found:
            raise KeyError(f"no sample of {name} with {labels}")
        return sum(found)

    def series(self) -> set[str]:
        """What there is, by name and labels."""
        return {f"{name}{dict(labels)}" for name, labels in self._values}

    def lower_than(self, earlier: Scrape) -> list[str]:
        """The counters that went down, or away, since then."""
        return [
            f"{name}{dict(labels)}: {before} -> {self._values.get((name, labels))}"
            for (name, labels), before in earlier._values.items()
            if name in earlier._monotonic and self._values.get((name, labels), -1.0) < before
        ]


class CounterWatch(RepeatedLook):
    """Reads the counters again and again: ``with CounterWatch(port) as watch: ...``.

    Attributes:
        went_down: what a counter must never do.
        scrapes: how many readings there were.
        last: the latest that came through.
    """

    def __init__(self, metrics_port: int, every_s: float = 0.05) -> None:
        super().__init__(every_s)
        self._port = metrics_port
        self.went_down: list[str] = []
        self.scrapes = 0
        self.last = Scrape(metrics_port)

    def _look(self) -> None:
        try:
            scrape = Scrape(self._port)
        except (urllib.error.URLError, OSError):
            # A server that ends takes its metrics with it, last of all.
            return
        self.went_down += scrape.lower_than(self.last)
        self.last = scrape
        self.scrapes += 1
