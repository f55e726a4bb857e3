"""What RLHF owes to imitation learning: known dynamics, proxies of feedback, on-policy data."""

PAPER = "RL perspective on RLHF, prompting and beyond (2023), arXiv:2310.06147"
GROUP = "mdps"
CLAIM = "cloning errs as T^2 where inverse RL and RLHF err as T; logged outcomes choose prompts"
MINUTES = 3
