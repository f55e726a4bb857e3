"""Nash methods, iterative DPO and RLHF on Bradley-Terry scores before judges who go in circles."""

PAPER = "Munos et al. 2023 (NLHF), Zhou et al. 2025 (EGPO), Zhang et al. 2024 (INPO) and kin"
GROUP = "games"
CLAIM = "at equal bits, RLHF on scores ends with one voice; Nash methods end near the equilibrium"
MINUTES = 45
