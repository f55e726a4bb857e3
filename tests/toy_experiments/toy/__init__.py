"""A run of two short stages, for tests of the command line."""

PAPER = "A toy, 2026"
CLAIM = "the weights stay small"
MINUTES = 0.1
GROUP = "games"
