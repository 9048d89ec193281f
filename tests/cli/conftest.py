"""Ways to run podvisor, and a place for each test to run it in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import support
from tests.runtime.conftest import _warm_loops, nothing_left  # noqa: F401  (fixtures)
from tests.support import Durable, Place, Way


@pytest.fixture(scope="session", params=support.WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> Way:
    way: Way = request.param
    obstacle = support.obstacle(way)
    if obstacle is not None:
        pytest.skip(f"this machine cannot run podvisor as {way}: {obstacle}")
    return way


@pytest.fixture
def place(way: Way) -> Iterator[Place]:
    yield from support.places(way)


@pytest.fixture
def node(place: Place) -> Iterator[Durable]:
    node = Durable(place)
    try:
        yield node
    finally:
        node.kill_everything()


@pytest.fixture(scope="module")
def shared_place(way: Way) -> Iterator[Place]:
    """For one run that many tests look at."""
    yield from support.places(way)
