"""Preference objectives without a reference: log-probabilities of the policy alone.

Losses of `mean_logps` compare answers per token, so length does not count; the others take sums.
Which of the two is passed cannot be checked, and the wrong one is another objective.

Shared arguments and results, unless a function says otherwise:
  chosen_logps, rejected_logps: [*B] log pi(y_w | x), log pi(y_l | x), summed over tokens, in nats.
  chosen_mean_logps, rejected_mean_logps: [*B] a_w and a_l, a = log pi(y | x) / |y|, in nats.
  beta: scale, > 0.
  gamma: target margin, >= 0, outside beta.
  label_smoothing: h, the probability that a label is wrong, in [0, 1/2).
Losses are [*B], unreduced, in nats, >= 0. Gradient flows to all log-probs. Shapes are checked at
trace time. Keyword numbers may be traced.
Needs: pairs, lengths.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.losses import links
from rlhf_jax.ops.logprobs import MAX_LOG_RATIO, log1mexp
from rlhf_jax.types import Scalar


def sft_loss(logps: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Supervised fine-tuning: negative log-likelihood.

    L = -log pi(y | x).

    The mean over all tokens of a batch is `ops.masking.token_mean` of -token_logps.

    Args:
      logps: [*B] log pi(y | x) in nats: summed over the answer, or its mean per token.
    Needs: answers.
    """
    return -logps


def dft_loss(token_logps: Float[Array, "*B T"]) -> Float[Array, "*B T"]:
    """Dynamic fine-tuning (DFT): SFT that leaves unlikely tokens alone, one value per token.

    L_t = -sg(pi_t) log pi_t,   pi_t = pi(y_t | x, y_<t).

    Only the gradient has a meaning: pi_t times that of SFT.

    Args:
      token_logps: [*B, T] log pi_t of the data's tokens, in nats; not summed over the answer.
    Returns:
      [*B, T] losses, unreduced, for `ops.masking.token_mean`.
    Needs: answers.
    Reduces to: pi_t times `sft_loss` of a token in gradient; minus pi_t in gradient, `simper_loss`
      of a one-token answer against a constant; `reinforce_loss` with advantages pi_t.
    Reference: Wu et al. 2025, arXiv:2508.05629.
    """
    # A log-prob above 0 is a rounding error; the minimum keeps the weight a probability.
    weights = jax.lax.stop_gradient(jnp.exp(jnp.minimum(token_logps, 0.0)))
    return -weights * token_logps


def simpo_loss(
    chosen_mean_logps: Float[Array, "*B"],
    rejected_mean_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    gamma: Scalar,
    label_smoothing: Scalar = 0.0,
) -> Float[Array, "*B"]:
    """SimPO, simple preference optimisation.

    L = -(1 - h) log sigmoid(z) - h log sigmoid(-z),   z = beta (a_w - a_l) - gamma,
    with a = log pi(y | x) / |y|.

    The paper has beta from 2 to 10 and h = 0; the authors' code has gamma / beta inside beta.

    Reduces to: `dpo_loss` of mean log-probs with equal reference log-probs at gamma = 0;
      `cpo_loss` with beta / n at gamma = 0 and equal lengths n.
    Reference: Meng et al. 2024, arXiv:2405.14734.
    """
    check_range("(0, inf)", beta=beta)
    check_range("[0, inf)", gamma=gamma)
    chex.assert_equal_shape([chosen_mean_logps, rejected_mean_logps])
    margins = beta * (chosen_mean_logps - rejected_mean_logps) - gamma
    return links.smoothed_logistic(margins, label_smoothing=label_smoothing)


def alpha_po_loss(
    chosen_mean_logps: Float[Array, "*B"],
    rejected_mean_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    gamma: Scalar,
    alpha: Scalar,
    label_smoothing: Scalar = 0.0,
) -> Float[Array, "*B"]:
    """AlphaPO: SimPO with a reward of another shape.

    L = SimPO with (1 - exp(-alpha a)) / alpha for a,   a = log pi(y | x) / |y|.

    The exponent -alpha a stops at 40, where the gradient becomes 0.

    Args:
      alpha: shape of the reward, any real. Above 0 the reward falls faster than log pi as pi -> 0,
        below 0 slower; at -1 it is the probability, at 0 it is a.
    Reduces to: `simpo_loss` as alpha -> 0; `simper_loss` in its gradient, over beta / 2, as
      beta -> 0 at alpha = -1, gamma = 0.
    Reference: Gupta et al. 2025, arXiv:2501.03884.
    """
    check_range("(-inf, inf)", alpha=alpha)
    return simpo_loss(
        _alpha_rewards(chosen_mean_logps, alpha),
        _alpha_rewards(rejected_mean_logps, alpha),
        beta=beta,
        gamma=gamma,
        label_smoothing=label_smoothing,
    )


def _alpha_rewards(mean_logps: Float[Array, "*B"], alpha: Scalar) -> Float[Array, "*B"]:
    """(1 - exp(-alpha a)) / alpha, and its limit a at alpha = 0."""
    exponents = jnp.minimum(-alpha * mean_logps, MAX_LOG_RATIO)
    # Two `where`s: 0 / 0 in the unused branch would make the gradient NaN, see
    # https://docs.jax.dev/en/latest/faq.html#gradients-contain-nan-where-using-where
    shaped = -jnp.expm1(exponents) / jnp.where(alpha == 0, 1.0, alpha)
    return jnp.where(alpha == 0, mean_logps, shaped)


def cpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
    label_smoothing: Scalar = 0.0,
) -> Float[Array, "*B"]:
    """CPO, contrastive preference optimisation, its preference term.

    L = -(1 - h) log sigmoid(z) - h log sigmoid(-z),   z = beta (log pi(y_w | x) - log pi(y_l | x)).

    Needs: pairs.
    Reduces to: `dpo_loss` with equal reference log-probs, e.g. a uniform reference.
    Reference: Xu et al. 2024, arXiv:2401.08417, Section 3.
    Departs: the paper has h = 0 and adds `sft_loss` of the chosen answer.
    """
    check_range("(0, inf)", beta=beta)
    chex.assert_equal_shape([chosen_logps, rejected_logps])
    margins = beta * (chosen_logps - rejected_logps)
    return links.smoothed_logistic(margins, label_smoothing=label_smoothing)


def odds_ratio_loss(
    chosen_mean_logps: Float[Array, "*B"], rejected_mean_logps: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """Odds ratio loss, the preference term of ORPO.

    L = -log sigmoid(log odds_w - log odds_l),   log odds = a - log(1 - exp a),
    with a = log pi(y | x) / |y| < 0.

    At a = 0 (an empty completion, or certainty) the odds are infinite: there 1 - exp a counts as
    1.2e-38, so log odds = 87.3, without gradient.

    Reduces to: `simpo_loss` with beta = 1, gamma = 0 where both probabilities exp a are small.
    Reference: Hong et al. 2024, arXiv:2403.07691, Eq. 7.
    """
    chex.assert_equal_shape([chosen_mean_logps, rejected_mean_logps])
    return links.logistic(_log_odds(chosen_mean_logps) - _log_odds(rejected_mean_logps))


def _log_odds(logps: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """log(p / (1 - p)) from log p."""
    return logps - log1mexp(logps)


def orpo_loss(
    chosen_mean_logps: Float[Array, "*B"], rejected_mean_logps: Float[Array, "*B"], *, beta: Scalar
) -> Float[Array, "*B"]:
    """ORPO, odds ratio preference optimisation.

    L = -a_w - beta log sigmoid(log odds_w - log odds_l),   log odds = a - log(1 - exp a),
    with a = log pi(y | x) / |y| < 0; finite at a = 0, see `odds_ratio_loss`.

    Args:
      beta: weight of the odds ratio, >= 0; the paper's lambda.
    Reduces to: `sft_loss` of chosen_mean_logps at beta = 0.
    Reference: Hong et al. 2024, arXiv:2403.07691, Eq. 6.
    Departs: the likelihood is of the chosen answer; trainers also count the prompt's tokens in it.
    """
    check_range("[0, inf)", beta=beta)
    odds_ratio = odds_ratio_loss(chosen_mean_logps, rejected_mean_logps)
    return sft_loss(chosen_mean_logps) + beta * odds_ratio


def simper_loss(
    chosen_mean_logps: Float[Array, "*B"], rejected_mean_logps: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """SimPER, inverse perplexity of the pair.

    L = -exp(a_w) + exp(a_l),   a = log pi(y | x) / |y|, so that exp(-a) is the perplexity.

    The loss lies in [-1, 1], and its gradient vanishes as exp a does.

    Reference: Xiao et al. 2025, arXiv:2502.00883.
    """
    chex.assert_equal_shape([chosen_mean_logps, rejected_mean_logps])
    # The cap is above every log-prob; it keeps the result finite for other input.
    chosen = jnp.exp(jnp.minimum(chosen_mean_logps, MAX_LOG_RATIO))
    return jnp.exp(jnp.minimum(rejected_mean_logps, MAX_LOG_RATIO)) - chosen


def slic_loss(
    chosen_logps: Float[Array, "*B"], rejected_logps: Float[Array, "*B"], *, delta: Scalar
) -> Float[Array, "*B"]:
    """SLiC-HF, sequence likelihood calibration by rank.

    L = max(0, delta - log pi(y_w | x) + log pi(y_l | x)).

    Args:
      delta: margin, >= 0, in nats.
    Needs: pairs.
    Reduces to: `hinge` of beta (log pi(y_w | x) - log pi(y_l | x)), over beta, at delta = 1 / beta.
    Reference: Zhao et al. 2023, arXiv:2305.10425.
    Departs: the paper adds a multiple of `sft_loss` on a target answer.
    """
    check_range("[0, inf)", delta=delta)
    chex.assert_equal_shape([chosen_logps, rejected_logps])
    return links.hinge(chosen_logps - rejected_logps, target=delta)
