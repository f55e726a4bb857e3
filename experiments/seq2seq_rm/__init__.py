"""Seq2seq reward model: it writes the better answer, and tokens are paid where it agrees."""

PAPER = "Zhou et al. 2024, arXiv:2409.00162 (sequence-to-sequence reward model)"
GROUP = "rewards"
CLAIM = "Few pairs teach a rewriting model more than a score; by length, it does not pay for length"
MINUTES = 1
