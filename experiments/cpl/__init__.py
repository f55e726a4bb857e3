"""Contrastive preference learning: a policy from preferences of segments, without rewards or RL."""

PAPER = "Hejna et al. 2023, 2310.13639 (contrastive preference learning)"
GROUP = "mdps"
CLAIM = "CPL on a table converges to the soft-optimal policy; rewards of partial returns do not"
MINUTES = 8
