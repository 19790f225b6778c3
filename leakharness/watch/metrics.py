"""What is retained, as a gauge for the metrics library that the service has: prometheus_client, opentelemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

__all__ = ["register"]

NAME = "leakharness_retained"
HELP = "Objects alive after the end of their life, by label."


def register(retained: Callable[[], dict[str, int]]) -> list[str]:
    """Offer ``retained()`` wherever it can be. Returns the names of the libraries found."""
    offers = (("prometheus_client", _prometheus), ("opentelemetry", _opentelemetry))
    return [name for name, offer in offers if offer(retained)]


def _found(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        return None


def _prometheus(retained: Callable[[], dict[str, int]]) -> bool:
    core = _found("prometheus_client.core")
    if core is None:
        return False

    class Collector:
        def collect(self) -> Iterable[Any]:
            family = core.GaugeMetricFamily(NAME, HELP, labels=["label"])
            for label, count in retained().items():
                family.add_metric([label], count)
            yield family

    core.REGISTRY.register(Collector())
    return True


def _opentelemetry(retained: Callable[[], dict[str, int]]) -> bool:
    metrics = _found("opentelemetry.metrics")
    if metrics is None:
        return False

    def observe(_: Any) -> Iterable[Any]:
        return [metrics.Observation(count, {"label": label}) for label, count in retained().items()]

    metrics.get_meter("leakharness").create_observable_gauge(NAME, [observe], description=HELP)
    return True
