"""Fine-grained RLHF: several reward heads, each paid at the ends of its own segments."""

PAPER = "Wu et al. 2023 (Fine-grained RLHF), arXiv:2306.01693"
CLAIM = "Rewards of segments learn faster than their sum, and their weights steer the answers"
MINUTES = 1
GROUP = "rewards"
