"""Fixtures of every scope, sync and async, set up anew for every run: what pytest keeps about them is no leak."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_plugin_checks import Outcomes, run_suite

pytest.importorskip("pytest_asyncio")

SUITE = """
import asyncio
import pytest, pytest_asyncio

KEPT = []


@pytest.fixture(scope="module")
def wide():
    return []


@pytest.fixture
def narrow(wide):
    yield {}


@pytest.fixture
def asks_by_name(request):
    yield request.getfixturevalue("narrow")


@pytest.fixture
def keeps():
    KEPT.append({"kept": []})


@pytest_asyncio.fixture
async def own():
    await asyncio.sleep(0)
    yield object()
    await asyncio.sleep(0)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def of_the_session():
    yield object()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[1, 2])
async def of_the_module(request):
    yield request.param


@pytest.fixture(params=["asyncio"])
def anyio_backend(request):
    return request.param


@pytest.mark.asyncio
async def test_clean_plain():
    await asyncio.sleep(0)


@pytest.mark.asyncio(loop_scope="session")
async def test_clean_session(of_the_session):
    await asyncio.sleep(0)


@pytest.mark.asyncio(loop_scope="module")
async def test_clean_module(of_the_module):
    await asyncio.sleep(0)


@pytest.mark.asyncio
@pytest.mark.parametrize("n", [0, 1])
async def test_clean_mixed(of_the_session, own, narrow, n):
    await asyncio.sleep(0)


@pytest.mark.anyio
async def test_clean_anyio():
    await asyncio.sleep(0)


def test_clean_by_name(asks_by_name):
    pass


def test_clean_by_name_in_the_body(request):
    request.getfixturevalue("narrow")


@pytest.mark.leakcheck(fresh_fixtures=False)
def test_clean_by_name_in_the_body_of_one_set_up(request):
    assert request.getfixturevalue("narrow") == {}


class TestOverrides:
    @pytest.fixture
    def wide(self, wide):
        yield wide

    def test_clean_by_name_of_two(self, request):
        request.getfixturevalue("wide")


@pytest.mark.asyncio
async def test_leaky_async(own):
    KEPT.append(asyncio.get_running_loop().create_future())


def test_leaky_by_name(request):
    request.getfixturevalue("keeps")
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fixtures")
    (folder / "test_sample.py").write_text(SUITE)
    (folder / "pytest.ini").write_text(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\nleak_iters = 10\nleak_max_runs = 400\n"
    )
    return folder


def verdicts(results: Outcomes) -> dict[str, str]:
    """What contradicts the test's name: ``{name: report}``."""
    return {
        name: text
        for name, (outcome, text) in results.items()
        if (outcome != "passed") != ("leaky" in name) or ("leaky" in name and "LeakFound" not in text)
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [(), ("-n2", "-k", "plain or mixed or leaky"), ("-o", "asyncio_mode=auto", "-k", "plain or leaky_async")]
)
def test_only_what_the_test_and_its_fixtures_keep_is_a_leak(suite: Path, words: tuple[str, ...]) -> None:
    results = run_suite(suite, "--leakcheck", *words)
    assert len(results) >= 2
    assert verdicts(results) == {}
