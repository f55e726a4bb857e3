"""Reward-model ensembles: does a conservative combination of members end over-optimisation?"""

PAPER = "Coste et al. 2023, 2310.02743 (reward model ensembles: mean, WCO, UWO)"
CLAIM = "the worst member, or the mean minus the variance, ends over-optimisation under label noise"
MINUTES = 3
GROUP = "rewards"
