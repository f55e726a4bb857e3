"""Rewards from preferences of segments: regret finds what to do, partial return often does not."""

PAPER = "Knox et al. 2022, 2206.02231 (models of human preference)"
GROUP = "mdps"
CLAIM = "rewards fitted to labels of regret as regret plan nearly as the true ones; as returns, not"
MINUTES = 7
