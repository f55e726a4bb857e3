"""Kinds of reward model on the same pairs of shop answers: clean, wrongly labelled, spurious."""

PAPER = "Lambert et al. 2024 (RewardBench), Coste et al. 2023 (ensembles), Gao et al. 2022 and kin"
GROUP = "rewards"
CLAIM = "members on separate trunks share fewer errors, and WCO and UWO then lose less gold"
MINUTES = 60
