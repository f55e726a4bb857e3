"""PRO: does a longer ranking teach more than a pair, and do dynamic temperatures help?"""

PAPER = "Song et al. 2023 (PRO), arXiv:2306.17492"
CLAIM = "Longer rankings order answers better; more reward with n comes without temperatures alone"
MINUTES = 1
GROUP = "language"
