"""Reinforcement learning near a clone of the expert: fewer episodes, no pessimism."""

PAPER = "Tiapkin et al. 2023 (demonstration-regularised RL), arXiv:2310.17303"
GROUP = "mdps"
CLAIM = "A KL penalty to the cloned expert saves episodes, and makes learned rewards safe to use"
MINUTES = 5
