"""The RLHF trilemma: representative, tractable and robust, in labels that can be counted."""

PAPER = "Sahoo et al. 2025 (RLHF trilemma), arXiv:2511.19504"
CLAIM = "values without structure cost 2^d labels a group; structure, if it is true, a polynomial"
MINUTES = 3
GROUP = "objectives"
