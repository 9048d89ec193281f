"""The node that a command is about."""

from __future__ import annotations

import os

from supervisor.cli import complain
from supervisor.client import Client, find_state_dir


def client(state_dir: str | None) -> Client:
    """Of the project that we are in, or of `--state-dir`. Whether it runs shows at the first
    request."""
    place = find_state_dir(os.getcwd(), state_dir)
    return Client(place, warn=lambda text: complain(f"Warning: {text}"))
