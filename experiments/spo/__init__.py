"""SPO: the share of one's own other answers that an answer beats, as its reward."""

PAPER = "Swamy et al. 2024, 2401.04056 (SPO)"
CLAIM = "win rates among own samples find the minimax winner where a reward model cannot"
MINUTES = 2
