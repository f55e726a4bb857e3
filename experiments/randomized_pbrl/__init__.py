"""Randomised exploration from preferences: sublinear regret, and queries that stop."""

PAPER = "Wu and Sun 2023 (PR-LSVI, PbTS), arXiv:2310.14554"
GROUP = "mdps"
CLAIM = (
    "noise in place of optimism explores, and preferences are asked for only where draws disagree"
)
MINUTES = 14
