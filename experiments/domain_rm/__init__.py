"""A reward model of a few named features: fewer comparisons, and a ceiling."""

PAPER = "Nath et al. 2024 (domain knowledge for reward modelling), arXiv:2402.15473"
GROUP = "rewards"
CLAIM = "A reward of seven features needs a twentieth of the pairs, and is overtaken in the end"
MINUTES = 2
