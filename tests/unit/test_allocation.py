"""Sites whose memory grows over a series of batches, by the judge's own rule."""

from __future__ import annotations

from leakharness.measure.allocation import growing_sites


def readings(**series: list[int]) -> list[dict[str, list[int]]]:
    length = len(next(iter(series.values())))
    return [{f"{name}.py:7": [sizes[i], i] for name, sizes in series.items()} for i in range(length)]


def test_a_site_that_grows_in_every_batch_is_named_with_its_rate() -> None:
    """Leaky twin: 1,000 bytes a run, eight runs a batch."""
    found = growing_sites(readings(leaky=[0, 8000, 16000, 24000, 32000, 40000]), 8)
    assert [(row["file"], row["line"], row["bytes_per_run"], row["per_run"]) for row in found] == [
        ("leaky.py", 7, 1000.0, 0.125)
    ]


def test_sites_that_stop_swing_or_double_once_are_not() -> None:
    """Clean twins: a cache that fills, a sawtooth, a table that doubled."""
    quiet = readings(
        fills=[0, 8000, 12000, 12000, 12000, 12000],
        saw=[0, 9000, 0, 9000, 0, 9000],
        table=[500, 500, 1000, 1000, 1000, 1000],
    )
    assert growing_sites(quiet, 8) == []


def test_the_fastest_site_comes_first() -> None:
    """Rows are in order of bytes per run."""
    found = growing_sites(
        readings(slow=[0, 800, 1600, 2400, 3200, 4000], fast=[0, 8000, 16000, 24000, 32000, 40000]), 8
    )
    assert [row["file"] for row in found] == ["fast.py", "slow.py"]


def test_a_site_that_rises_unevenly_in_every_batch_is_named_where_none_is_even() -> None:
    """A list that is appended to takes a larger buffer now and then."""
    uneven = [0, 408, 880, 1700, 2108, 2580]
    assert [row["file"] for row in growing_sites(readings(uneven=uneven), 8)] == ["uneven.py"]
    both = readings(uneven=uneven, leaky=[0, 8000, 16000, 24000, 32000, 40000])
    assert [row["file"] for row in growing_sites(both, 8)] == ["leaky.py"]
