"""Best-of-B fine-tuning with a KL prior: where it ends, the rates it bears, what it costs."""

PAPER = "Mukobi et al. 2023 (SuperHF: Supervised Iterative Learning from HF), arXiv:2310.16763"
CLAIM = "Best-of-B with a forward-KL prior bears a wide range of rates; hacking needs beta > B - 1"
MINUTES = 1
GROUP = "language"
