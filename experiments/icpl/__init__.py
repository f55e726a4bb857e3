"""ICPL: reward programs proposed, trained, ranked by comparisons of their policies, and mutated."""

PAPER = "ICPL 2024, arXiv:2410.17233"
CLAIM = "few comparisons of trained policies find a reward program, where pairs need many"
MINUTES = 1
GROUP = "feedback"
