"""Ends of `podvisor run` at random moments: `make torture`, of which `make test` runs a sample."""
