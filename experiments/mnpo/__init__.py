"""MNPO on exact games: what a history of policies, optimism and more players change."""

PAPER = "Wu et al. 2025, 2509.23102 (MNPO); Zhang et al. 2025, 2502.16852 (ONPO)"
GROUP = "games"
CLAIM = "history widens the stable steps of self-play and leaves its fixed point where it is"
MINUTES = 1
