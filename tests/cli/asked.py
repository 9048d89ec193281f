"""Running one command in this process, as the shell would, against a node's API."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from supervisor import cli

Json = dict[str, Any]
NOW = "2026-01-01T00:00:00Z"


class Said(Struct, frozen=True):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def podvisor(*words: str) -> Said:
    """Its exit code and what it printed."""
    raw, err = io.BytesIO(), io.StringIO()
    out = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    before, sys.argv = sys.argv, ["podvisor", *words]
    cli.fail_with(cli.ExitCode.OK)  # what an earlier one has set does not hold
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run: Callable[[], int] = vars(cli)["_guarded"]
            code = run()
    finally:
        sys.argv = before
    return Said(int(code), raw.getvalue().decode(), err.getvalue())


def table(*rows: tuple[object, ...], columns: str = "Name Ready Status IP*", **meta: str) -> Json:
    """A Table of pods; a column with a star is for wide output. The first cell is the name."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": "7", **meta},
        "columnDefinitions": [
            {"name": name.rstrip("*"), "type": "string", "priority": int("*" in name)}
            for name in columns.split()
        ],
        "rows": [
            {
                "cells": list(row),
                "object": {
                    "metadata": {
                        "name": row[0],
                        "namespace": "default",
                        "labels": {"app": row[0], "tier": "x"},
                        "resourceVersion": str(10 + at),
                    }
                },
            }
            for at, row in enumerate(rows)
        ],
    }
