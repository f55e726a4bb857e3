"""Models conditioned on a user's latent z, as ordinary policies and rewards over `LatentInputs`.

    reward = latent_reward(tabular_reward(4, 3), latent_dim=8)
    scores = reward.scores(params, with_latents(trajectory, latents))   # [*B]
    for_one = for_user(reward, latents[0])                              # of plain trajectories

Nothing that trains a policy or reads a reward has to know: `algos.user_reward` fits the reward, and
every other update takes the policy and the rewards of one user as they are.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.models.mlp import MLP, make_mlp
from rlhf_jax.types import (
    LatentInputs,
    Params,
    Policy,
    RewardFn,
    Trajectory,
    UserEncoder,
    UserPosterior,
    ValueFn,
    with_latents,
)

LOG_VARIANCES = (-5.0, 2.0)


def latent_policy(policy: Policy, *, latent_dim: int) -> Policy:
    """Any policy, with params that are linear in the latent: theta(z) = theta_0 + sum_j z_j D_j.

    params = {"base": theta_0, "directions": D [k, ...]}; D starts at 0, so that at first every user
    has the base policy. A row of a batch has params of its own: for a large model, make the adapter
    of `models.lora` latent and not the whole.

    Args:
      policy: any parametrisation.
      latent_dim: k.
    """
    init = _init(policy.init, latent_dim)

    def logits(params, inputs):
        def one(z, x):
            return policy.logits(_params_of(params, z), x)

        return _each_row(one, inputs.latents)(inputs.latents, inputs.inputs)

    def logps(params, inputs, actions):
        def one(z, x, taken):
            return policy.logps(_params_of(params, z), x, taken)

        return _each_row(one, inputs.latents)(inputs.latents, inputs.inputs, actions)

    return Policy(init, logits, logps)


def latent_value(values: ValueFn, *, latent_dim: int) -> ValueFn:
    """Any state values, with params that are linear in the latent, as those of `latent_policy`.

    With a policy and action values of the same kind, `algos.control.iql` on the rewards of many
    users is the offline policy of VPL.
    """

    def of(params, inputs):
        def one(z, x):
            return values.values(_params_of(params, z), x)

        return _each_row(one, inputs.latents)(inputs.latents, inputs.inputs)

    return ValueFn(_init(values.init, latent_dim), of)


def latent_reward(reward: RewardFn, *, latent_dim: int) -> RewardFn:
    """Any reward, with params that are linear in the latent, as those of `latent_policy`."""

    def scores(params, trajectory):
        def one(z, row):
            return reward.scores(_params_of(params, z), row)

        latents = trajectory.inputs.latents
        return _each_row(one, latents)(latents, _plain(trajectory))

    return RewardFn(_init(reward.init, latent_dim), scores)


def decoded_reward(net: MLP) -> RewardFn:
    """score = sum over counted steps of f([x_t, z]): the decoder of VPL.

    The features x are the inputs of the trajectory, [*B, T, d], as of `linear_reward`: embeddings
    of a frozen model, or what is known of a state. An answer with one vector has T = 1.

    Args:
      net: f, from d + k numbers to 1, e.g. `make_mlp((d + k, 64, 64, 1))`.
    Reference: Poddar et al. 2024, arXiv:2408.10075.
    """

    def scores(params, trajectory):
        check_mask(mask=trajectory.mask)
        x, z = trajectory.inputs.inputs, trajectory.inputs.latents
        kept = trajectory.mask[..., None]
        z = jnp.broadcast_to(z[..., None, :], (*x.shape[:-1], z.shape[-1]))
        rewards = net.apply(params, jnp.where(kept, jnp.concatenate([x, z], axis=-1), 0.0))
        return jnp.sum(jnp.where(kept, rewards, 0.0)[..., 0], axis=-1)

    return RewardFn(net.init, scores)


def vector_trajectory(x: Float[Array, "*B d"]) -> Trajectory:
    """Answers with one vector each, as `decoded_reward` and `linear_reward` read them: one step."""
    ones = jnp.ones((*x.shape[:-1], 1), bool)
    return Trajectory(x[..., None, :], ones.astype(jnp.int32), ones)


def user_encoder(num_features: int, latent_dim: int, *, width: int = 64) -> UserEncoder:
    """A network for pairs, the mean over a user's pairs, and a network for the posterior.

    h = mean_n f([x_w, x_l]_n),   (m, lv) = g(relu(h)),   lv clipped to [-5, 2].

    f and g have one hidden layer.

    The mean makes it blind to the order of the comparisons, and lets it read any number of them. A
    user without any gets g(0), the same for all.

    Args:
      num_features: d, of the vector of one answer.
      latent_dim: k.
      width: of all hidden layers.
    Reference: Poddar et al. 2024, arXiv:2408.10075.
    Departs: the label is the order of the pair; their code for control encodes both answers and the
      label, that for language models has self-attention over the pairs.
    """
    check_range("[1, inf)", num_features=num_features, latent_dim=latent_dim, width=width)
    pairs = make_mlp((2 * num_features, width, width))
    heads = make_mlp((width, width, 2 * latent_dim))

    def init(key):
        pairs_key, heads_key = jax.random.split(key)
        return {"pairs": pairs.init(pairs_key), "heads": heads.init(heads_key)}

    def posterior(params, chosen, rejected, mask):
        check_mask(mask=mask)
        kept = mask[..., None]
        # Masked before the networks too: the gradient of a NaN would be NaN.
        both = jnp.where(kept, jnp.concatenate([chosen, rejected], axis=-1), 0.0)
        total = jnp.sum(jnp.where(kept, pairs.apply(params["pairs"], both), 0.0), axis=-2)
        count = jnp.maximum(jnp.sum(mask, axis=-1), 1).astype(total.dtype)
        found = heads.apply(params["heads"], jax.nn.relu(total / count[..., None]))
        means, spreads = jnp.split(found, 2, axis=-1)
        return UserPosterior(means, jnp.clip(spreads, *LOG_VARIANCES))

    return UserEncoder(init, posterior)


def for_user(reward: RewardFn, latents: Float[Array, " k"]) -> RewardFn:
    """The reward of one user, on plain trajectories: what an optimiser of a policy takes."""

    def scores(params, trajectory):
        return reward.scores(params, with_latents(trajectory, latents))

    return RewardFn(reward.init, scores)


def policy_for_user(policy: Policy, latents: Float[Array, " k"]) -> Policy:
    """The policy of one user, on plain inputs, from a policy over `LatentInputs` [*B, T]."""

    def among(inputs):
        rows = jax.tree.leaves(inputs)[0].shape[:-1]
        return LatentInputs(inputs, jnp.broadcast_to(latents, (*rows, latents.shape[-1])))

    def logits(params, inputs):
        return policy.logits(params, among(inputs))

    def logps(params, inputs, actions):
        return policy.logps(params, among(inputs), actions)

    return Policy(policy.init, logits, logps)


def _init(init: Callable[..., Params], latent_dim: int) -> Callable[..., Params]:
    """params that are those of the base for every z."""
    check_range("[1, inf)", latent_dim=latent_dim)

    def both(key):
        base = init(key)
        flat = jax.tree.map(lambda x: jnp.zeros((latent_dim, *x.shape), x.dtype), base)
        return {"base": base, "directions": flat}

    return both


def _params_of(params: Params, z: Float[Array, " k"]) -> Params:
    """theta_0 + sum_j z_j D_j."""

    def add(base, directions):
        return base + jnp.tensordot(z.astype(directions.dtype), directions, axes=1)

    return jax.tree.map(add, params["base"], params["directions"])


def _each_row(function: Callable[..., Array], latents: Array) -> Callable[..., Array]:
    """The function mapped over the leading axes of the latents."""
    for _ in latents.shape[:-1]:
        function = jax.vmap(function)
    return function


def _plain(trajectory: Trajectory) -> Trajectory:
    """The trajectory without its latents."""
    valid = trajectory.valid
    return Trajectory(trajectory.inputs.inputs, trajectory.actions, trajectory.mask, valid)
