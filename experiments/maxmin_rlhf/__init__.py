"""MaxMin-RLHF: rewards of hidden groups of users by EM, and a policy for the worst-off group."""

PAPER = "Chakraborty et al. 2024 (MaxMin-RLHF), arXiv:2402.08925"
CLAIM = "one reward for users who disagree fails the minority; max-min over a mixture serves it"
MINUTES = 2
GROUP = "objectives"
