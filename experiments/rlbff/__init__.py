"""Entailment of named principles: yes or no, with a zero, under a principle chosen at inference."""

PAPER = "Wang et al. 2025 (RLBFF), arXiv:2509.21319"
CLAIM = "A reward that is told the principle serves each principle; Bradley-Terry serves their mean"
MINUTES = 2
GROUP = "rewards"
