"""Safe-set control from few demonstrations: a reconstruction on LS3, not the paper's algorithm."""

PAPER = "Safe Reinforcement Learning with Minimal Supervision (abstract only), arXiv:2501.04481"
GROUP = "mdps"
CLAIM = "More demonstrations shorten safe paths; unsupervised walks stand in for missing ones"
MINUTES = 6
