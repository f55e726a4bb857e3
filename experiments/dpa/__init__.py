"""One policy that reads a direction between two rewards, beside policies of one trade-off."""

PAPER = "Wang et al. 2024 (Directional Preference Alignment), arXiv:2402.18571"
CLAIM = (
    "Rejection sampling over directions trains one policy that follows every trade-off asked for"
)
MINUTES = 1
GROUP = "language"
