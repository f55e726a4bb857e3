"""INPO: a regression on bits is mirror descent, and what happens where its pairs are chosen."""

PAPER = "Zhang et al. 2024, 2407.00617 (INPO)"
GROUP = "games"
CLAIM = (
    "winner-loser regression finds the Nash policy of a cycle; iterative DPO and best-of-8 do not"
)
MINUTES = 3
