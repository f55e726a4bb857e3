"""The survey of DPO variants: its four dimensions compared on one bandit with a known optimum."""

PAPER = "Liu et al. 2025, 2503.11701 (survey of direct preference optimisation)"
CLAIM = "each correction of DPO helps under the fault that it is for, on labels from one bandit"
MINUTES = 2
GROUP = "language"
