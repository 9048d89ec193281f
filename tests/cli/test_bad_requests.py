"""Requests and streams that make no sense, to a real node: each is answered or ends, none costs it
anything. `python -m tests.torture.api` sends ten thousand of each."""

from __future__ import annotations

import pytest

from tests.support import Durable, one_way
from tests.torture.api import campaign
from tests.torture.hostile import Wire

pytestmark = pytest.mark.usefixtures("nothing_left")


@one_way
def test_nonsense_is_answered_or_ends_and_costs_nothing(node: Durable) -> None:
    report = campaign(node, seed=7, requests=300, frames=300)
    assert {wire for wire, _ in report.answers} == set(Wire)
    talks = {name.split()[0] for name in report.sessions}
    assert talks == {"exec", "attach", "portforward"}
