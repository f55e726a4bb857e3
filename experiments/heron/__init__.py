"""HERON: factors are ranked instead of weighed, and a reward is learnt from the comparisons."""

PAPER = "Bukharin et al. 2023 (HERON), arXiv:2309.02632"
GROUP = "feedback"
CLAIM = "A ranking of factors trains as well as the true reward, whatever the units of the factors"
MINUTES = 5
