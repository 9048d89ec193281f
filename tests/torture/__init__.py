"""Ends of `podvisor run`, and crashes of `podvisor serve`, at random moments: `make torture`, of
which `make test` runs a sample."""
