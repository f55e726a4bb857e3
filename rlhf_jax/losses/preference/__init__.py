"""Direct preference objectives: log-probabilities of answers in, one loss per example out."""

from rlhf_jax.losses.preference.pairs import dpo_loss, ipo_loss

__all__ = ["dpo_loss", "ipo_loss"]
