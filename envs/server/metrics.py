"""What Prometheus sees of one server process: episodes, steps, threads, the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

__all__ = ["METRICS_TYPE", "Metrics"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STEP_BUCKETS_S = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)


class Metrics:
    """The figures of one app; nothing is shared with other apps of the process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.begun = Counter("envloop_episodes_begun", "Episodes begun here.", ["env"], registry=self._registry)
        self.ended = Counter(
            "envloop_episodes_ended", "Episodes ended here, by status.", ["env", "status"], registry=self._registry
        )
        self.restored = Counter(
            "envloop_episodes_restored", "Episodes played again from the journal.", ["env"], registry=self._registry
        )
        self.step_seconds = Histogram(
            "envloop_step_seconds",
            "Seconds of the environment's own work in a step, its wait for a thread included.",
            ["env"],
            buckets=_STEP_BUCKETS_S,
            registry=self._registry,
        )

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A figure that is read when it is asked for."""
        Gauge(name, text, registry=self._registry).set_function(read)

    def watch_each(
        self, name: str, text: str, labels: Sequence[str], read: Callable[[], Iterable[tuple[Sequence[str], float]]]
    ) -> None:
        """A figure for each of the labels' values, read when it is asked for."""
        self._registry.register(_Each(name, text, labels, read))

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        found: bytes = generate_latest(self._registry)
        return found


class _Each(Collector):
    def __init__(
        self, name: str, text: str, labels: Sequence[str], read: Callable[[], Iterable[tuple[Sequence[str], float]]]
    ) -> None:
        self._name, self._text, self._labels, self._read = name, text, labels, read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """What is so now."""
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for values, number in self._read():
            family.add_metric(values, number)
        yield family
