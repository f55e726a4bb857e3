"""Reward models on pairs with a spurious feature: which losses ignore it, and what it costs."""

PAPER = "Liu, Chaudhary and Wang 2023, 2307.16851 (causality view of trustworthy machine learning)"
CLAIM = "a reward model learns a spurious feature unless the loss is told what to ignore"
MINUTES = 2
GROUP = "rewards"
