"""Containers as process trees: what starts them, ends them, and keeps what they print."""
