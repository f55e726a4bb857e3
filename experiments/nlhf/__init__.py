"""Nash learning from human feedback: last iterates, the cost of a mixture, three types of judge."""

PAPER = "Munos et al. 2023 (Nash-MD, Nash-EMA), arXiv:2312.00886"
GROUP = "games"
CLAIM = "Nash-MD's last policy keeps KL to the regularised Nash policy under 8 / (beta^2 (t + 1))"
MINUTES = 2
