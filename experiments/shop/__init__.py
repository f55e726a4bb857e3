"""The whole job on the shop world: SFT, reward model, best-of-n, DPO, IPO, online DPO and PPO."""

PAPER = "Ouyang et al. 2022 (RLHF), Rafailov et al. 2023 (DPO), Gao et al. 2022 (over-optimisation)"
GROUP = "language"
CLAIM = "best-of-16, DPO, online DPO and PPO go a fifth of the way from SFT to ideal answers"
MINUTES = 8
