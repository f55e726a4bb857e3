"""Nash methods, iterative DPO and PPO before judges who go round in circles, on the shop world."""

PAPER = "Munos et al. 2023 (NLHF), Zhou et al. 2025 (EGPO), Zhang et al. 2024 (INPO) and kin"
GROUP = "games"
CLAIM = "before judges without a best answer, Nash methods lose less to any rival than PPO on BT"
MINUTES = 20
