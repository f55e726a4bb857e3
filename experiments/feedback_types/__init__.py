"""Which question teaches most: active queries, and kinds of feedback through one likelihood."""

PAPER = "Kaufmann et al. 2023 (survey of RLHF), arXiv:2312.14925"
GROUP = "feedback"
CLAIM = "mutual information and D-optimal queries need few labels; entropy asks near-copies"
MINUTES = 6
