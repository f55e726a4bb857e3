"""P3O: only differences of rewards enter, so a shift by prompt changes nothing."""

PAPER = "Wu et al. 2023 (P3O), arXiv:2310.00212"
CLAIM = "P3O ignores a shift of rewards by prompt, which costs PPO without a baseline per prompt"
MINUTES = 2
GROUP = "language"
