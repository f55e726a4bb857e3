"""Linear MDPs: transitions and rewards are linear in known features of state and action.

P_h(s' | s, a) = <phi(s, a), mu_h(s')>,   r_h(s, a) = <phi(s, a), theta_h>. Then the action values
of every policy are linear too. A table has one feature per pair, `one_hot_features`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.envs.tabular_mdp import FiniteMDP
from rlhf_jax.types import record


@record
class LinearMDP:
    """features: [S, A, d] phi; measures: [H, d, S] mu_h, next states of each latent factor;
    reward_weights: [H, d] theta_h; initial: [S] distribution of the first state. Use vmap for
    leading axes."""

    features: Array
    measures: Array
    reward_weights: Array
    initial: Array


def to_finite_mdp(mdp: LinearMDP) -> FiniteMDP:
    """The same MDP as tables: P_h = phi mu_h, r_h = phi theta_h."""
    return FiniteMDP(
        transitions=jnp.einsum("ijd,hdk->hijk", mdp.features, mdp.measures),
        rewards=jnp.einsum("ijd,hd->hij", mdp.features, mdp.reward_weights),
        initial=mdp.initial,
    )


def random_linear_mdp(
    key: Key[Array, ""],
    *,
    horizon: int,
    num_states: int,
    num_actions: int,
    num_features: int,
    concentration: float = 0.3,
    measure_concentration: float = 0.3,
    reward_share: float = 0.5,
    anchor_share: float = 0.05,
) -> LinearMDP:
    """A linear MDP that satisfies every assumption, by mixing d latent factors.

    phi(s, a) ~ Dirichlet(c) is a probability vector over factors, so ||phi||_2 <= 1; each mu_h[k] ~
    Dirichlet(c') one over states, so P_h = phi mu_h is a transition kernel of rank <= min(d, S);
    theta_h in [0, 1]^d, so r_h is in [0, 1]. Some pairs are anchors, phi = e_k, with every factor
    in turn, so each factor occurs alone.

    Args:
      concentration, measure_concentration: c, c' > 0; below 1 vectors are peaked.
      reward_share: share of factors with a reward, in [0, 1].
      anchor_share: share of pairs that are anchors; there are never fewer than d.
    Returns:
      LinearMDP that starts in state 0.
    Raises:
      ValueError: a size below 1, or fewer pairs than features.
    """
    pairs = num_states * num_actions
    if min(horizon, num_states, num_actions, num_features) < 1 or pairs < num_features:
        raise ValueError(
            "horizon, num_states, num_actions, num_features must be >= 1, and states times actions "
            f">= features; got {horizon}, {num_states}, {num_actions}, {num_features}"
        )
    keys = jax.random.split(key, 5)
    anchors = min(pairs, max(num_features, round(anchor_share * pairs)))
    alphas = jnp.full(num_features, float(concentration))
    features = jax.random.dirichlet(keys[0], alphas, (pairs,))
    places = jax.random.permutation(keys[1], pairs)[:anchors]
    ones = jax.nn.one_hot(jnp.arange(anchors) % num_features, num_features, dtype=features.dtype)
    features = features.at[places].set(ones)
    shape = (horizon, num_features)
    pays = jax.random.bernoulli(keys[2], reward_share, shape)
    measure_alphas = jnp.full(num_states, float(measure_concentration))
    return LinearMDP(
        features=features.reshape(num_states, num_actions, num_features),
        measures=jax.random.dirichlet(keys[3], measure_alphas, shape),
        reward_weights=jnp.where(pays, jax.random.uniform(keys[4], shape), 0.0),
        initial=jnp.zeros(num_states).at[0].set(1.0),
    )


def one_hot_features(num_states: int, num_actions: int) -> Float[Array, "S A d"]:
    """[S, A, S * A]: feature s * A + a is 1. Makes any finite MDP linear."""
    pairs = num_states * num_actions
    return jnp.eye(pairs).reshape(num_states, num_actions, pairs)


def step_blocks(features: Float[Array, "S A d"], horizon: int) -> Float[Array, "H S A H*d"]:
    """[H, S, A, H * d]: phi in block h at step h, zeros elsewhere; gives each step its own weights.

    For the same weights at all steps, broadcast phi to [H, S, A, d] instead.
    """
    blocks = jnp.einsum("gh,ijd->gijhd", jnp.eye(horizon, dtype=features.dtype), features)
    return blocks.reshape(*blocks.shape[:3], -1)


def trajectory_features(
    step_features: Float[Array, "H S A m"], states: Int[Array, "*B H"], actions: Int[Array, "*B H"]
) -> Float[Array, "*B m"]:
    """phi(tau) = sum_h phi_h(s_h, a_h); the return of tau is <phi(tau), theta>.

    Args:
      step_features: [H, S, A, m], from `step_blocks` or broadcast.
      states, actions: [*B, H] of whole episodes.
    """
    steps = jnp.arange(step_features.shape[0])
    return jnp.sum(step_features[steps, states, actions], axis=-2)


def check_linear_mdp(
    mdp: FiniteMDP, features: Float[Array, "S A d"], *, tolerance: float = 1e-8
) -> LinearMDP:
    """The MDP in its linear form, if it is linear in these features; on the host, outside jit.

    Args:
      mdp: without leading axes.
      features: [S, A, d] phi, of any norm.
      tolerance: largest accepted error of a probability or a reward.
    Returns:
      LinearMDP with measures and weights from least squares (of minimal norm if features are
      dependent). Measures need not be >= 0.
    Raises:
      ValueError: shapes do not fit, or an error exceeds the tolerance; the message gives the
        largest one with its step, state and action.
    """
    transitions = np.asarray(mdp.transitions, np.float64)
    rewards, phi = np.asarray(mdp.rewards, np.float64), np.asarray(features, np.float64)
    if transitions.ndim != 4 or phi.ndim != 3 or phi.shape[:2] != rewards.shape[1:]:
        raise ValueError(
            "transitions must be [H, S, A, S] and features [S, A, d] of the same states and "
            f"actions, got {transitions.shape} and {phi.shape}"
        )
    # One least-squares problem for both: the reward is a column beside those of the next states.
    targets = np.concatenate([transitions, rewards[..., None]], axis=-1)
    table = phi.reshape(-1, phi.shape[-1])
    inverse = np.linalg.pinv(table)
    weights = inverse @ targets.reshape(len(rewards), len(table), -1)
    errors = np.abs(table @ weights - targets.reshape(len(rewards), len(table), -1))
    _refuse_above(errors.reshape(targets.shape), tolerance)
    return LinearMDP(
        features=jnp.asarray(phi),
        measures=jnp.asarray(weights[..., :-1]),
        reward_weights=jnp.asarray(weights[..., -1]),
        initial=jnp.asarray(mdp.initial),
    )


def _refuse_above(errors: np.ndarray, tolerance: float) -> None:
    """ValueError that names the largest error [H, S, A, S + 1]; the last column is the reward."""
    largest = errors.max()
    if largest <= tolerance:
        return
    step, state, action, column = np.argwhere(errors == largest)[0]
    reward = column == errors.shape[-1] - 1
    what = "reward" if reward else f"probability of next state {column}"
    raise ValueError(
        f"the MDP is not linear in these features: the {what} at step {step}, state {state}, "
        f"action {action} is off by {largest:.3g}; expected at most {tolerance:g}"
    )
