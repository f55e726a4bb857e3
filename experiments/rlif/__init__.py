"""RLIF: a teacher's decision to step in is the reward, and it is enough to outdo the teacher."""

PAPER = "Luo et al. 2023 (RLIF), arXiv:2311.12996"
GROUP = "mdps"
CLAIM = "Learning from -1 for each intervention beats a bad expert, and whoever imitates it"
MINUTES = 4
