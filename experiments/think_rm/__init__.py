"""Think-RM: a judge that thinks in text, trained by a rule, and advantages from its comparisons."""

PAPER = "Hong et al. 2025, 2505.16265 (Think-RM)"
CLAIM = "long right judgements make a better judge; its comparisons beat scores against a reference"
MINUTES = 2
GROUP = "rewards"
