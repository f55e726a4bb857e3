"""ICPL: reward programs proposed, trained, ranked by comparisons of their policies, and mutated."""

PAPER = "ICPL 2024, arXiv:2410.17233"
CLAIM = "49 comparisons of reward programs find a better reward than thousands of trajectory pairs"
MINUTES = 1
GROUP = "feedback"
