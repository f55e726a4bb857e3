"""OSP: do soft labels of a calibrated judge stay where hard labels over-fit, on policy?"""

PAPER = "Zhai et al. 2024 (OSP), arXiv:2405.14103"
CLAIM = "Soft labels end at the KL-regularised optimum; hard labels leave the trust region"
MINUTES = 1
GROUP = "language"
