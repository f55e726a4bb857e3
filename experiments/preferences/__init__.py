"""Reward model and DPO on a file of human preferences, by cross-validation, beside baselines."""

PAPER = "Bai et al. 2022 (hh-rlhf), Ouyang et al. 2022 (reward model), Rafailov et al. 2023 (DPO)"
GROUP = "language"
CLAIM = "a reward model trained from scratch on the pairs of --data FILE is better than chance"
NEEDS = "--data FILE"
MINUTES = 6
