"""A model that improves the answer it reads, learned from pairs, beside more samples."""

PAPER = "Wang et al. 2023 (PIT), arXiv:2310.00898"
CLAIM = "A model trained on the gap over a reference answer improves it, round after round"
MINUTES = 1
GROUP = "language"
