"""VPL: a user's latent from eight comparisons, and a reward and a policy that read it."""

PAPER = "Poddar et al. 2024, 2408.10075 (VPL)"
CLAIM = "a latent of each user, inferred from eight comparisons, serves users whose tastes differ"
MINUTES = 2
GROUP = "rewards"
