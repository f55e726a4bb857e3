"""EGPO's tabular suite: extragradient on online IPO, and the baselines of its paper, one plot."""

PAPER = "Zhou, Fazel, Du 2025, 2503.08942 (EGPO)"
GROUP = "games"
CLAIM = "SGD on online IPO, looking a step ahead, reaches the Nash policy of every random game"
MINUTES = 2
