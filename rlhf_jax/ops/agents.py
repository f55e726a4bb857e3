"""Several agents in one episode: what each turn is paid.

A conversation agent answers, c_0; a feedback agent says what is wrong with it, f_0; the first one
revises, c_1, and so on for N rounds.

    qualities: [*B, N + 1] R(c_t) of each answer, e.g. 1 where a judge has no objection.
    revised: [*B, N] True where round t led to a new answer; without one there is nothing to pay.

Rewards are data. Shapes are checked at trace time.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_entries, check_mask, check_range
from rlhf_jax.ops.masking import centred, whiten
from rlhf_jax.ops.returns import answer_rewards
from rlhf_jax.types import Scalar


def improvement_rewards(
    qualities: Float[Array, "*B M"], revised: Bool[Array, "*B N"]
) -> Float[Array, "*B N"]:
    """Dynamic improvement reward (DIR): how much better the revised answer is.

    D_t = R(c_{t+1}) - R(c_t) where revised, else 0.   sum_t D_t = R(c_last) - R(c_0).

    A draft that was good already pays nothing, and its quality is a baseline that the feedback
    agent cannot move.

    Args:
      qualities: [*B, N + 1]; what stands for answers that were not given never matters.
    Reference: Zhang et al. 2025, arXiv:2510.08240.
    """
    check_mask(revised=revised)
    chex.assert_equal_shape([qualities[..., 1:], revised])
    # Masked before the difference: an answer that was not given may be NaN.
    later = jnp.where(revised, qualities[..., 1:], 0.0)
    earlier = jnp.where(revised, qualities[..., :-1], 0.0)
    return jax.lax.stop_gradient(later - earlier)


def labels_match(said: Bool[Array, "*B L"], true: Bool[Array, "*B L"]) -> Bool[Array, "*B"]:
    """Whether all labels of a draft, e.g. (unsafe, over-refusal), are those of the judge."""
    check_mask(said=said, true=true)
    chex.assert_equal_shape([said, true])
    return jnp.all(said == true, axis=-1)


def feedback_rewards(
    improvements: Float[Array, "*B"],
    right: Bool[Array, "*B"],
    well_formed: Bool[Array, "*B"],
    *,
    improvement_weight: Scalar,
    label_weight: Scalar | Float[Array, "*B"],
    format_weight: Scalar,
    conditioned: bool = True,
) -> Float[Array, "*B"]:
    """What a feedback agent is paid for a round.

    R_f = alpha D 1[label right] + lambda 1[label right] + gamma 1[well formed].

    If a revision follows a flag alone and a label is right only as a whole, a right label with
    a revision means a bad draft: the conditioned D is then never negative, and spoiling a good
    draft costs the label reward and nothing more. `sign_shares` shows it.

    Args:
      improvements: [*B] D of `improvement_rewards`.
      right: [*B] of `labels_match`.
      well_formed: [*B] whether the feedback could be read.
      improvement_weight, label_weight, format_weight: alpha, lambda, gamma, >= 0; lambda is 0 in
        the paper's second stage, and may be [*B], e.g. of `ops.environments.balanced_weights`:
        any constant label is then paid alike.
      conditioned: False pays D whatever the label, which lets the labels go.
    Reduces to: the reward of a classifier at alpha = 0.
    Reference: Zhang et al. 2025, arXiv:2510.08240.
    """
    check_range("[0, inf)", improvement_weight=improvement_weight, format_weight=format_weight)
    check_entries("[0, inf)", label_weight=label_weight)
    check_mask(right=right, well_formed=well_formed)
    chex.assert_equal_shape([improvements, right, well_formed])
    paid = jnp.where(right, improvements, 0.0) if conditioned else improvements
    return improvement_weight * paid + label_weight * right + format_weight * well_formed


def sign_shares(x: Float[Array, "*S"], mask: Bool[Array, "*S"]) -> Float[Array, "3"]:
    """Shares of counted entries below, at and above 0; 0 where nothing counts."""
    check_mask(mask=mask)
    chex.assert_equal_shape([x, mask])
    counts = jnp.stack([jnp.sum(mask & found) for found in (x < 0, x == 0, x > 0)])
    return counts / jnp.maximum(jnp.sum(mask & ~jnp.isnan(x)), 1)


def agent_advantages(
    returns: Float[Array, "*B"],
    token_kl: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    beta: Scalar,
    whitened: bool = True,
) -> Float[Array, "*B T"]:
    """REINFORCE++ advantages of the samples of one agent, without a critic.

    A_i = R - beta sum_{j >= i} kl_j, then whitened over all counted tokens; 0 under the mask.

    Each agent is whitened over its own samples: rewards of two agents have no common scale.

    Args:
      returns: [*B] R of each sample, one turn of the agent.
      token_kl: [*B, T] log pi_old - log pi_ref of each token.
      mask: [*B, T] the tokens of that turn; a sample without any has no effect, NaN included.
      beta: KL weight >= 0.
      whitened: False only subtracts the mean.
    Reference: Hu et al. 2025, arXiv:2501.03262; the optimiser of arXiv:2510.08240.
    """
    rewards = answer_rewards(returns, token_kl, mask, beta=beta)
    rewards = jnp.where(mask, rewards, 0.0)
    to_go = jnp.flip(jnp.cumsum(jnp.flip(rewards, -1), axis=-1), -1)
    to_go = jax.lax.stop_gradient(jnp.where(mask, to_go, 0.0))
    if whitened:
        return whiten(to_go, mask)
    return jnp.where(mask, centred(to_go, mask.astype(to_go.dtype)), 0.0)
