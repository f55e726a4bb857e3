"""UFO: a policy that is told "wrong, try again" learns not to repeat itself."""

PAPER = "Liu et al. 2025, arXiv:2507.14295 (UFO)"
CLAIM = "Trained on episodes of several tries, a policy stops repeating wrong answers"
MINUTES = 1
GROUP = "language"
