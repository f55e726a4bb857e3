"""Iterative DPO: pairs of the current policy and pairs that explore, or pairs of the reference."""

PAPER = "Dong et al. 2024, 2405.07863 (RLHF workflow)"
CLAIM = "iterative DPO with exploration needs fewer labels than DPO on pairs of the reference"
MINUTES = 2
GROUP = "language"
