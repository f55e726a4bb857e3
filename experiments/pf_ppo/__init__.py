"""Policy filtration: learning from the answers of which a reward model is sure."""

PAPER = "Zhang et al. 2024 (PF-PPO), arXiv:2409.06957"
CLAIM = "Where a reward model errs in its middle, PPO on the best and worst or random answers wins"
MINUTES = 1
GROUP = "language"
