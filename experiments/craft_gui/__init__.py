"""CRAFT-GUI: tasks from short to long, and rewards from the outcome to every step."""

PAPER = "arXiv:2508.11360 (CRAFT-GUI)"
CLAIM = "GRPO learns long tasks if short ones come first, or if single steps are rewarded"
MINUTES = 1
GROUP = "language"
