"""Fine-tuning on the best of K answers, round after round, beside PPO on as many samples."""

PAPER = "Dong et al. 2023 (RAFT: Reward rAnked FineTuning), arXiv:2304.06767"
CLAIM = "Rounds of best-of-K are one round of a power of K, and depend on the order of rewards only"
MINUTES = 1
GROUP = "language"
