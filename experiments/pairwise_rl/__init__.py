"""A judge that compares an answer with an anchor as the reward: no zero, no unit per prompt."""

PAPER = "Xu et al. 2025 (Pairwise-RL), arXiv:2504.04950"
CLAIM = "A verdict over an anchor, in both orders, needs no reward that is calibrated over prompts"
MINUTES = 2
GROUP = "rewards"
