"""Hybrid rewards of agents: marks of one operation, of an answer, of a whole episode (CRAFT-GUI).

Marks are numbers in [0, 1], all of the shape [*B]. Weights of one reward sum to 1, so that
it lies in [0, 1].

Reference: 2025, arXiv:2508.11360 (CRAFT-GUI), of which the abstract was read; a reconstruction.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.types import Scalar

Mark = Float[Array, "*B"]


def operation_reward(
    form: Mark, kind: Mark, argument: Mark, *, form_weight: Scalar = 0.1, kind_weight: Scalar = 0.3
) -> Float[Array, "*B"]:
    """Fine-grained reward of an operation beside the right one.

    r = w_f f + w_t t + (1 - w_f - w_t) t s.

    Args:
      form: f, it can be read. kind: t, it is of the right kind. argument: s, how much of its
        argument is right, which counts only where the kind is.
      form_weight, kind_weight: w_f, w_t in [0, 1/2].
    Needs: marks of operations.
    Reduces to: the argument's mark, where the kind is right, at w_f = w_t = 0.
    """
    check_range("[0, 1/2]", form_weight=form_weight, kind_weight=kind_weight)
    chex.assert_equal_shape([form, kind, argument])
    form, kind, argument = (jnp.asarray(x, float) for x in (form, kind, argument))
    left = 1.0 - form_weight - kind_weight
    return form_weight * form + kind_weight * kind + left * kind * argument


def understanding_reward(
    form: Mark, judged: Mark, *, form_weight: Scalar = 0.1
) -> Float[Array, "*B"]:
    """Reward of an answer about a screen.

    r = w_f f + (1 - w_f) f J.

    Args:
      judged: J in [0, 1] of a judge or a rule; counted only where the form is valid.
      form_weight: w_f in [0, 1].
    Needs: marks of answers.
    """
    check_range("[0, 1]", form_weight=form_weight)
    chex.assert_equal_shape([form, judged])
    form, judged = (jnp.asarray(x, float) for x in (form, judged))
    return form_weight * form + (1.0 - form_weight) * form * judged


def graded_return(done: Mark, right: Mark, *, dense: Scalar) -> Float[Array, "*B"]:
    """Return of an episode of several steps, from the outcome to every step.

    R = (1 - c) [done] + c s,   s the share of right steps.

    Args:
      right: s, share of steps that are right, in [0, 1], or the mean `operation_reward` of them.
      dense: c in [0, 1]; 0 is the outcome alone.
    Needs: marks of episodes.
    """
    check_range("[0, 1]", dense=dense)
    chex.assert_equal_shape([done, right])
    done, right = (jnp.asarray(x, float) for x in (done, right))
    return (1.0 - dense) * done + dense * right
