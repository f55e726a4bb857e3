"""Feedback before an outcome and after it: labels by foresight and by simulated hindsight."""

PAPER = "Liang et al. 2025 (RLHS), arXiv:2501.08617"
CLAIM = "Labels by foresight teach to please and not to serve; a simulated outcome mends them"
MINUTES = 1
GROUP = "feedback"
