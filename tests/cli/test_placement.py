"""Where a durable node lives, and who could take its containers away from it."""

from __future__ import annotations

import os
import pathlib

import pytest

from supervisor.cli import placement
from supervisor.cli.placement import Placement


def look(folder: pathlib.Path, cgroup: str) -> Placement:
    file = folder / "cgroup"
    file.write_text(cgroup)
    return placement.look(str(file), str(folder))


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/ci-runner.service\n", "ci-runner.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"),
        ("3:memory:/x.service\n1:name=systemd:/init.scope\n0::/\n", ""),
        ("1:name=systemd:/system.slice/ssh.service\n0::/\n", "ssh.service"),
        ("0::/\n1:name=systemd:/system.slice/ssh.service\n", "ssh.service"),
        ("0::/user.slice/user@1000.service/app.slice\n", ""),
        ("0::/user.slice/user@1000.service/app.slice/web.service\n", "web.service"),
        ("", ""),
    ],
)
def test_the_unit_that_would_be_emptied_together_with_us_is_found(
    tmp_path: pathlib.Path, cgroup: str, unit: str
) -> None:
    assert look(tmp_path, cgroup) == Placement(unit=unit)


def test_without_cgroups_there_is_none(tmp_path: pathlib.Path) -> None:
    assert placement.look(str(tmp_path / "none"), str(tmp_path)) == Placement()


@pytest.mark.parametrize("name", ["user.delegate", "trusted.delegate"])
def test_a_cgroup_that_systemd_leaves_to_us_is_marked(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def marked(path: str, asked: str) -> bytes:
        if (path, asked) == (f"{tmp_path}/system.slice/web.service", name):
            return b"1"
        raise OSError(61, "No data available")

    monkeypatch.setattr(os, "getxattr", marked)
    assert look(tmp_path, "0::/system.slice/web.service\n").delegated
    assert not look(tmp_path, "0::/system.slice/other.service\n").delegated


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Placement("web.service"), "in the unit web.service, which systemd empties when it stops"),
        (Placement("session-3.scope"), "in the login session session-3.scope: where logind has"),
        (Placement("web.service", delegated=True), None),
        (Placement("run-r12.scope"), None),  # of `systemd-run --scope`
        (Placement(), None),
    ],
)
def test_who_could_end_the_containers_is_said_with_a_remedy(
    place: Placement, words: str | None
) -> None:
    said = placement.warning(place)
    assert (words in said) if words and said else (said, words) == (None, None)
