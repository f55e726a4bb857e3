"""Curation by two reward models and a judge: more uncurated pairs do not help, curating does."""

PAPER = "Liu et al. 2025 (Skywork-Reward-V2), arXiv:2507.01352"
CLAIM = "More pairs with biased labels do not help a reward model; curating them does"
MINUTES = 1
GROUP = "rewards"
