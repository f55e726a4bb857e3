"""SPO: the share of one's own other answers that an answer beats, as its reward."""

PAPER = "Swamy et al. 2024, 2401.04056 (SPO)"
GROUP = "games"
CLAIM = "win rates among own samples bring the average policy to the minimax winner"
MINUTES = 2
