"""The shell around the deciding core: it performs plans, and never decides."""
