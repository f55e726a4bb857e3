"""Direct RLHF: from a base model to a good chat without supervised fine-tuning."""

PAPER = "Zheng et al. 2024 (Mistral-Plus), arXiv:2403.02513"
CLAIM = "At the same chat reward, RL from the base forgets less than SFT and is no more toxic"
MINUTES = 1
GROUP = "language"
