"""HC-RLHF: a held-out test of mean cost, and training that expects it."""

PAPER = "Chittepu et al. 2025, 2506.08266 (HC-RLHF)"
CLAIM = "a policy is released with a mean cost above its limit with probability delta at most"
MINUTES = 2
GROUP = "objectives"
