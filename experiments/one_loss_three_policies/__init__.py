"""DPO, IPO and PPO, each one function, on a table, a log-linear policy and a transformer."""

PAPER = "Rafailov et al. 2023 (DPO), Azar et al. 2023 (IPO), Schulman et al. 2017 (PPO)"
GROUP = "language"
CLAIM = "one DPO, IPO and PPO function brings three kinds of policy to pi_ref exp(r / beta) / Z"
MINUTES = 4
