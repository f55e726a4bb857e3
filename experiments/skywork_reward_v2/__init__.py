"""Curation by two reward models and a judge: uncurated pairs do not help, curated ones do."""

PAPER = "Liu et al. 2025 (Skywork-Reward-V2), arXiv:2507.01352"
CLAIM = "More pairs with biased labels do not help a reward model; the same pairs curated do"
MINUTES = 1
GROUP = "rewards"
