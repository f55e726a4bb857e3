"""Small networks over observations: policies, values and rewards of control.

    policy = network_policy(4, 2)                               # two actions: a `Policy`
    net = tanh_gaussian(3, 1, squash=Squash(limit=2.0))         # one number in [-2, 2]
    update = preference.make_update(net.policy, optimizer, loss)
    act = partial(net.draw, params)                             # for `sample_episode`

Inputs are observations [*B, T, d] of any source; actions are [*B, T] int, or [*B, T, k] float for
`tanh_gaussian`. Params are those of `models.mlp.make_mlp`. Observations under a False of the mask
may be anything finite.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rlhf_jax.checks import check_fields, check_range
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.ops.gaussians import gaussian_draws, tanh_normal_logps
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.ops.returns import discounted_sum
from rlhf_jax.types import ActionValueFn, Params, Policy, RewardFn, Scalar, Trajectory, ValueFn

WIDTHS = (64, 64)


class ContinuousPolicy(NamedTuple):
    """A policy of actions [*B, T, k] in a box.

    policy: init and logps, for any loss; its logits raise TypeError.
    draw: `(params, key, inputs [*B, d]) -> (actions [*B, k], log-probs [*B])`.
    middle: the same for limit tanh m, the action of no noise; it does not read the key.
    """

    policy: Policy
    draw: Callable[..., tuple[Array, Array]]
    middle: Callable[..., tuple[Array, Array]]


@dataclass(frozen=True, kw_only=True)
class Squash:
    """The box and the spread of a squashed Gaussian.

    limit: largest |a|, > 0. edge: as in `ops.gaussians.tanh_normal_logps`.
    low, high: ends of the log standard deviation before tanh; low < high.
    """

    limit: float = 1.0
    edge: float = 1e-5
    low: float = -5.0
    high: float = 2.0

    def __post_init__(self):
        check_fields(self, "(0, inf)", "limit")
        check_fields(self, "(0, 1)", "edge")
        check_fields(self, "(-inf, inf)", "low", "high")
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")


UNIT = Squash()


def network_policy(num_inputs: int, num_actions: int, *, widths: Sequence[int] = WIDTHS) -> Policy:
    """pi(a | s) = softmax(f(s))_a, f an MLP; its logits also serve as Q(s, .) in `iql`."""
    net = make_mlp((num_inputs, *widths, num_actions))

    def logps(params, inputs, actions):
        return token_logps(net.apply(params, inputs), actions)

    return Policy(net.init, net.apply, logps)


def tanh_gaussian(
    num_inputs: int,
    action_size: int,
    *,
    widths: Sequence[int] = WIDTHS,
    squash: Squash = UNIT,
) -> ContinuousPolicy:
    """a = limit tanh(m(s) + exp(g(s)) e), e ~ N(0, I), with m and g from one MLP.

    g = low + (high - low) sigmoid(2 h(s)), h the second half of the outputs.

    Args:
      num_inputs, action_size: d and k.
    Reference: Haarnoja et al. 2018, arXiv:1801.01290; the range of g as in its later code.
    """
    net = make_mlp((num_inputs, *widths, 2 * action_size))
    box = {"limit": squash.limit, "edge": squash.edge}

    def heads(params, inputs):
        means, spread = jnp.split(net.apply(params, inputs), 2, axis=-1)
        return means, 2.0 * (squash.low + (squash.high - squash.low) * jax.nn.sigmoid(2.0 * spread))

    def logps(params, inputs, actions):
        chex.assert_axis_dimension(actions, -1, action_size)
        return tanh_normal_logps(*heads(params, inputs), actions, **box)

    def logits(params, inputs):
        raise TypeError("a policy of continuous actions has no logits: use logps, draw or middle")

    def act(params, inputs, noise):
        means, log_variances = heads(params, inputs)
        latent = gaussian_draws(means, log_variances, noise(means))
        # Not beyond the edge: the log-prob below is then that of `logps` for the same action.
        highest = 1.0 - squash.edge
        actions = squash.limit * jnp.clip(jnp.tanh(latent), -highest, highest)
        return actions, tanh_normal_logps(means, log_variances, actions, **box)

    def draw(params: Params, key: Key[Array, ""], inputs: Array) -> tuple[Array, Array]:
        return act(params, inputs, lambda like: jax.random.normal(key, like.shape, like.dtype))

    def middle(params: Params, key: Key[Array, ""], inputs: Array) -> tuple[Array, Array]:
        del key
        return act(params, inputs, jnp.zeros_like)

    return ContinuousPolicy(Policy(net.init, logits, logps), draw, middle)


def network_value(num_inputs: int, *, widths: Sequence[int] = WIDTHS) -> ValueFn:
    """V(s) = f(s), f an MLP."""
    net = make_mlp((num_inputs, *widths, 1))
    return ValueFn(net.init, lambda params, inputs: net.apply(params, inputs)[..., 0])


def network_action_value(
    num_inputs: int, action_size: int, *, widths: Sequence[int] = WIDTHS, limit: Scalar = 1.0
) -> ActionValueFn:
    """Q(s, a) or a reward per step, f([s, a / limit]) with f an MLP; a is [*B, T, k] float."""
    check_range("(0, inf)", limit=limit)
    net = make_mlp((num_inputs + action_size, *widths, 1))

    def values(params, inputs, actions):
        chex.assert_axis_dimension(actions, -1, action_size)
        return net.apply(params, jnp.concatenate([inputs, actions / limit], axis=-1))[..., 0]

    return ActionValueFn(net.init, values)


def summed_reward(step_reward: ActionValueFn, *, gamma: Scalar = 1.0) -> RewardFn:
    """score = sum over counted steps of gamma^t r(s_t, a_t), t = 0 at the first of them.

    Fitted to comparisons of segments by `algos.reward_model`, `step_reward.values` with the same
    params is the reward of each step, for `algos.control.iql`.

    Args:
      step_reward: r. gamma: discount, in [0, 1].
    """
    check_range("[0, 1]", gamma=gamma)

    def scores(params: Params, trajectory: Trajectory) -> Float[Array, "*B"]:
        rewards = step_reward.values(params, trajectory.inputs, trajectory.actions)
        return discounted_sum(rewards, trajectory.mask, gamma=gamma)

    return RewardFn(step_reward.init, scores)
