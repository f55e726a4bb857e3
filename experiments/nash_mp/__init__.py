"""Nash mirror prox: a last iterate that converges linearly, at a rate free of the game's size."""

PAPER = "Tiapkin et al. 2025 (Nash-MP), arXiv:2505.19731"
GROUP = "games"
CLAIM = "KL(pi* || pi_k) shrinks by 1 / (1 + 2 beta) or better at every update, in every game"
MINUTES = 2
