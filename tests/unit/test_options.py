"""Options resolve: command line > scenario > pyproject.toml > default. Each layer, each option, each bad value."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest

from leakharness.errors import OptionError
from leakharness.model import Plan
from leakharness.options import DEFAULTS
from leakharness.resolve import checked_target, known_leaks, pyproject_options, resolve
from leakharness.scenario.declare import SCENARIO_OPTIONS
from leakharness.sensitivity import Sensitivity

VALUES: dict[str, tuple[Any, Any, Any]] = {
    "iters": (11, 12, 13),
    "batches": (2, 3, 4),
    "warmup": (21, 22, 23),
    "scope_bytes": (100, 200, 300),
    "max_tracked_retention": (0, 5, 6),
    "max_rss_growth_mb": (1.5, 2.5, 3.5),
    "max_runs": (1000, 2000, 3000),
    "max_seconds": (1.0, 2.0, 3.0),
    "sensitivity": ("2,4096", "3,100", "0.5,8192"),
    "soak": ("10m", "2h", "90"),
    "timeout": (7.0, 8.0, 9.0),
    "snapshots": ("never", "on-fail", "always"),
}
"""What each option is on the command line, in the scenario and in pyproject.toml."""


def test_every_option_is_in_the_table() -> None:
    """The matrix below leaves none out, and a scenario takes all of them."""
    assert set(VALUES) == set(DEFAULTS) == set(SCENARIO_OPTIONS)
    assert set(DEFAULTS) == {field.name for field in dataclasses.fields(Plan)} - {"iters_given"}


def test_the_plan_has_the_defaults_of_the_table() -> None:
    """A plan that nobody said anything about is what no option at all resolves to."""
    assert Plan() == resolve({})


@pytest.mark.parametrize("said", itertools.product([True, False], repeat=3), ids=lambda s: "".join("01"[x] for x in s))
@pytest.mark.parametrize("name", VALUES)
def test_the_nearest_layer_wins(name: str, said: tuple[bool, bool, bool]) -> None:
    """Command line over scenario over pyproject over default; None in a layer means that it says nothing."""
    layers = [{name: value} if is_said else {name: None} for value, is_said in zip(VALUES[name], said, strict=True)]
    wanted = next((value for value, is_said in zip(VALUES[name], said, strict=True) if is_said), DEFAULTS[name])
    assert getattr(resolve(*layers), name) == wanted
    assert getattr(resolve(*({k: v for k, v in layer.items() if v is not None} for layer in layers)), name) == wanted


def test_the_other_options_keep_their_defaults() -> None:
    """What one layer says of one option changes no other."""
    plan = resolve({"iters": 7})
    assert {name: getattr(plan, name) for name in DEFAULTS} == {**DEFAULTS, "iters": 7}


def test_the_defaults_of_the_contract() -> None:
    """50 runs a batch, 5 batches, 2,000,000 bytes, 300 seconds, a snapshot after each batch."""
    plan = resolve({})
    assert (plan.iters, plan.batches, plan.warmup, plan.scope_bytes) == (50, 5, None, 2_000_000)
    assert (plan.timeout, plan.snapshots) == (300.0, "always")
    assert (plan.max_tracked_retention, plan.max_rss_growth_mb) == (None, None)


@pytest.mark.parametrize(("said", "kept"), [("1", "1,4096"), (2, "2,4096"), ("0.5,100", "0.5,100"), (1.5, "1.5,4096")])
def test_a_sensitivity_is_one_number_or_two(said: Any, kept: str) -> None:
    """Objects a run, and bytes where they are said."""
    assert str(Sensitivity.of(resolve({"sensitivity": said}).sensitivity)) == kept


@pytest.mark.parametrize("said", ["", "0", "-1", "1,0", "1,2,3", "nan", "many", "1,", True, [1]])
def test_a_sensitivity_that_means_nothing_is_refused(said: Any) -> None:
    """Each with a sentence."""
    with pytest.raises(OptionError, match="one or two numbers above 0, as in 1,4096"):
        resolve({"sensitivity": said})


def test_a_command_may_have_defaults_of_its_own() -> None:
    """As check has for snapshots; every layer still ranks above."""
    assert resolve({}, defaults={"snapshots": "on-fail"}).snapshots == "on-fail"
    assert resolve({}, {}, {"snapshots": "never"}, defaults={"snapshots": "on-fail"}).snapshots == "never"


@pytest.mark.parametrize("layer", range(4))
def test_who_asked_for_the_batch_size(layer: int) -> None:
    """Only a size that somebody asked for is kept where runs are slow."""
    layers: list[dict[str, Any]] = [{}, {}, {}, {}]
    layers[layer] = {"iters": 50}
    assert resolve(*layers[:3]).iters_given == (layer < 3)


def test_a_limit_of_zero_is_a_limit() -> None:
    """0 is not the same as not said."""
    assert resolve({"max_tracked_retention": 0}, {"max_tracked_retention": 5}).max_tracked_retention == 0
    assert resolve({"warmup": 0}).warmup == 0


def test_auto_warm_up() -> None:
    """auto means as many as it takes."""
    assert resolve({"warmup": "auto"}, {"warmup": 5}).warmup is None


SOURCES = ("command line", "scenario", "pyproject.toml")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("iters", 0, "--iters 0 ({}): at least 1"),
        ("iters", -1, "--iters -1 ({}): at least 1"),
        ("iters", 1.5, "--iters 1.5 ({}): a whole number is needed"),
        ("iters", "many", "--iters 'many' ({}): a whole number is needed"),
        ("iters", True, "--iters True ({}): a whole number is needed"),
        ("iters", float("inf"), "--iters inf ({}): a whole number is needed"),
        ("iters", [5], "--iters [5] ({}): a whole number is needed"),
        ("batches", 0, "--batches 0 ({}): at least 1"),
        ("warmup", -1, "--warmup -1 ({}): at least 0"),
        ("warmup", "some", "--warmup 'some' ({}): a whole number is needed"),
        ("scope_bytes", -1, "--scope-bytes -1 ({}): at least 0"),
        ("max_tracked_retention", -1, "--max-tracked-retention -1 ({}): at least 0"),
        ("max_rss_growth_mb", -0.5, "--max-rss-growth-mb -0.5 ({}): at least 0"),
        ("max_runs", 0, "--max-runs 0 ({}): at least 1"),
        ("max_seconds", float("nan"), "--max-seconds nan ({}): a finite number is needed"),
        ("timeout", 0, "--timeout 0 ({}): at least 0.001"),
        ("timeout", float("inf"), "--timeout inf ({}): a finite number is needed"),
        ("timeout", float("nan"), "--timeout nan ({}): a finite number is needed"),
        ("snapshots", "maybe", "--snapshots 'maybe' ({}): it is one of never, on-fail, always"),
        ("snapshots", 3, "--snapshots 3 ({}): it is one of never, on-fail, always"),
    ],
)
def test_a_bad_value_names_the_option_and_its_source(name: str, value: Any, wanted: str, source: str) -> None:
    """What, where, and what it takes."""
    layers: list[dict[str, Any]] = [{}, {}, {}]
    layers[SOURCES.index(source)] = {name: value}
    with pytest.raises(OptionError) as caught:
        resolve(*layers)
    assert str(caught.value) == wanted.format(source)
    assert caught.value.exit_code == 2


def test_a_bad_value_that_is_overruled_is_not_looked_at() -> None:
    """The nearest layer decides alone."""
    assert resolve({"iters": 5}, {"iters": "many"}).iters == 5


@pytest.mark.parametrize("target", ["pkg:f", "pkg.mod:Class.method", "über:naïve", None])
def test_a_target(target: str | None) -> None:
    """module:attribute, each of them dotted names; or none at all."""
    assert checked_target(target) == target


@pytest.mark.parametrize("target", ["pkg", "pkg:", ":f", "a:b:c", "pkg:f()", "a b:c", "3:x", "a..b:c", "a:b.", ""])
def test_a_target_that_is_none(target: str) -> None:
    """The message says how to write it."""
    with pytest.raises(OptionError, match="write it as module:attribute"):
        checked_target(target)


def test_the_nearest_pyproject_counts(tmp_path: Path) -> None:
    """That of the folder or of the next one above; dashes and underscores are the same."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.leakharness]\nmax-seconds = 3\niters = 9\n")
    assert pyproject_options(inner) == {"max_seconds": 3, "iters": 9}
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert pyproject_options(inner) == {}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[tool.leakharness]\nitters = 5\n", "has no option 'itters'; it takes batches"),
        ("[tool.leakharness\n", "pyproject.toml: "),
        ("[tool]\nleakharness = 5\n", "[tool.leakharness] is a table, not 5"),
        ("tool = 5\n", "[tool.leakharness] is a table"),
        ("[tool.leakharness]\nknown = 5\n", "known is a list of tables, not 5"),
        ("\xff\xfe", "pyproject.toml: "),
    ],
)
def test_a_bad_pyproject_is_named(text: str, wanted: str, tmp_path: Path) -> None:
    """The file, and what is wrong in it."""
    path = tmp_path / "pyproject.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(OptionError) as caught:
        pyproject_options(tmp_path)
    assert str(path) in str(caught.value)
    assert wanted in str(caught.value)


def test_known_leaks_of_both_places() -> None:
    """The scenario's first, then pyproject's."""
    known = known_leaks([("pkg.Thing", "issue open")], {"known": [{"match": "fp:1", "reason": "vendor"}]})
    assert [(entry.match, entry.reason) for entry in known] == [("pkg.Thing", "issue open"), ("fp:1", "vendor")]


@pytest.mark.parametrize("entry", [{"match": "x"}, {"reason": "y"}, {"match": " ", "reason": "y"}, "x", 3])
def test_a_known_leak_needs_a_reason(entry: Any) -> None:
    """Nothing is forgiven without one."""
    with pytest.raises(OptionError, match=r"needs match .* and reason"):
        known_leaks([], {"known": [entry]})
