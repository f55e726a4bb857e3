"""TODO: method, and the question that this experiment answers, in one line."""

PAPER = "TODO: authors, year, arXiv number"
CLAIM = "TODO: the claim in one line"
MINUTES = 1
GROUP = "TODO: one of the groups that `python -m experiments list` prints"
