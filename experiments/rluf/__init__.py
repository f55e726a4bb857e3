"""Hearts of users as one of several rewards: what P[Love] predicts, and what it is fooled by."""

PAPER = "Reinforcement learning from user feedback 2025 (RLUF), arXiv:2505.14946"
CLAIM = "P[Love] raises live hearts for little help, promises too much, and likes goodbyes"
MINUTES = 3
GROUP = "objectives"
