"""WaltzRL: an agent that answers and an agent that criticises, trained together."""

PAPER = "Zhang et al. 2025 (The Alignment Waltz, WaltzRL), arXiv:2510.08240"
CLAIM = "two agents who are paid for improvements attack less and refuse less than one agent"
MINUTES = 1
GROUP = "objectives"
