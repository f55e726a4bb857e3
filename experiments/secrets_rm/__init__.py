"""Wrong labels found by voting, repaired, and a reward model that no longer overfits them."""

PAPER = "Wang et al. 2024 (Secrets of RLHF, Part II: Reward Modeling), arXiv:2401.06080"
GROUP = "rewards"
CLAIM = "Flipping the pairs that ten voters doubt most keeps a reward model from learning noise"
MINUTES = 2
