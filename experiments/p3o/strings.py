"""The same with a transformer that writes strings, and rewards shifted by prompt."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.p3o.config import Config, Strings
from experiments.p3o.learners import batch_centred, batch_whitened
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import GroupBatch, make_group_update
from rlhf_jax.losses.pairwise_gradient import p3o_v2_loss
from rlhf_jax.losses.policy_gradient import ppo_clip_loss
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.ops.groups import leave_one_out_advantages
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.policies.language import language_decoder, language_policy
from rlhf_jax.sampling.decode import SamplingConfig, sample_many
from rlhf_jax.types import Rollout, TrainState

BASELINES = {
    "RLOO": leave_one_out_advantages,
    "PPO, batch mean": batch_centred,
    "PPO, whitened": batch_whitened,
}
METHODS = ("P3O-V2", *BASELINES)


def string_study(config: Config) -> dict[str, np.ndarray]:
    """Of the answers drawn, without and with shift: "<method>/reward", "<method>/kl" [N, 2, I]."""
    sizes = config.strings
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1), sizes.num_seeds)
    shifts = jnp.array([0.0, config.shift])
    over_methods = jax.vmap(partial(train, config), (0, None, None))
    over_shifts = jax.vmap(over_methods, (None, 0, None))
    over_all = jax.jit(jax.vmap(over_shifts, (None, None, 0)))
    found = over_all(jnp.arange(len(METHODS)), shifts, keys)
    return {
        f"{name}/{k}": np.asarray(x[:, :, i])
        for i, name in enumerate(METHODS)
        for k, x in found.items()
    }


def train(config: Config, kind: Array, shift: Array, key: Key[Array, ""]) -> dict[str, Array]:
    """Mean reward and KL [I] of the answers of each iteration; kind: number of the method."""
    sizes = config.strings
    model = make_transformer(transformer_config(sizes))
    policy, optimizer = language_policy(model), optax.adam(sizes.rate)
    sampling = SamplingConfig(max_new_tokens=sizes.length)
    draw = partial(sample_many, language_decoder(model), config=sampling)
    start_key, pair_key, shift_key, ask_key, say_key = jax.random.split(key, 5)
    first = policy.init(start_key)
    wanted = draw_pairs(pair_key, sizes)
    deltas = shift * jax.random.normal(shift_key, (sizes.symbols,))
    asked = jax.random.randint(ask_key, (sizes.iterations, sizes.batch), 0, sizes.symbols)
    update = make_group_update(policy, optimizer, partial(any_loss, clip_eps=config.clip_eps))

    def iteration(state: TrainState, given: tuple[Array, Array]):
        prompts, number = given
        rollout = draw_two(draw, state.params, prompts, jax.random.fold_in(say_key, number))
        trajectory = rollout.trajectory
        ref = policy.logps(first, trajectory.inputs, trajectory.actions)
        rewards = neighbours(trajectory.actions, wanted[prompts][:, None]).astype(jnp.float32)
        old = sequence_logps(rollout.token_logps, trajectory.mask)
        gaps = old - sequence_logps(ref, trajectory.mask)
        paid = rewards + deltas[prompts][:, None] - sizes.beta * gaps
        choices = jnp.stack([paid, *(advantages(paid) for advantages in BASELINES.values())])
        columns = {"old_logps": old, "scores": paid, "advantages": choices[kind]}
        columns["kinds"] = jnp.broadcast_to(kind, prompts.shape)
        batch = GroupBatch(trajectory, columns)

        def epoch(_, state: TrainState) -> TrainState:
            return update(state, batch)[0]

        state = jax.lax.fori_loop(0, sizes.epochs, epoch, state)
        return state, {"reward": jnp.mean(rewards), "kl": jnp.mean(gaps)}

    steps = jnp.arange(sizes.iterations)
    return jax.lax.scan(iteration, init_state(first, optimizer), (asked, steps))[1]


def any_loss(
    logps: Float[Array, "B K"],
    old_logps: Float[Array, "B K"],
    scores: Float[Array, "B K"],
    advantages: Float[Array, "B K"],
    kinds: Int[Array, "B"],
    *,
    clip_eps: float,
) -> Float[Array, "B"]:
    """P3O-V2 for kind 0, else the clipped policy gradient: one program for all methods."""
    pairs = p3o_v2_loss(logps, old_logps, scores, clip_eps=clip_eps)
    single = ppo_clip_loss(logps, old_logps, advantages, clip_eps=clip_eps)
    return jnp.where(kinds == 0, pairs, jnp.mean(single, axis=-1))


def transformer_config(sizes: Strings) -> TransformerConfig:
    """Two heads and learned positions."""
    return TransformerConfig(
        vocab_size=sizes.symbols,
        d_model=sizes.width,
        num_layers=sizes.layers,
        num_heads=2,
        num_kv_heads=2,
        head_dim=sizes.width // 2,
        d_ff=2 * sizes.width,
        positions="learned",
        max_positions=1 + sizes.length,
    )


def draw_pairs(key: Key[Array, ""], sizes: Strings) -> Int[Array, "X 2"]:
    """Two different symbols for each prompt."""
    first_key, gap_key = jax.random.split(key)
    first = jax.random.randint(first_key, (sizes.symbols,), 0, sizes.symbols)
    gaps = jax.random.randint(gap_key, (sizes.symbols,), 1, sizes.symbols)
    return jnp.stack([first, (first + gaps) % sizes.symbols], axis=-1)


def neighbours(strings: Int[Array, "*B T"], pairs: Int[Array, "*P 2"]) -> Array:
    """How many neighbours in a string are the pair, [*B]."""
    first, second = pairs[..., :1], pairs[..., 1:]
    return jnp.sum((strings[..., :-1] == first) & (strings[..., 1:] == second), axis=-1)


def draw_two(draw: Callable[..., Rollout], params, prompts: Array, key: Key[Array, ""]) -> Rollout:
    """Two answers to each prompt, [B, 2]."""
    rows, asked = jnp.arange(len(prompts)), prompts[:, None]
    numbers = jnp.broadcast_to(jnp.arange(2), (len(prompts), 2))
    mask = jnp.ones(asked.shape, bool)
    return draw(params, asked, mask, key, prompt_indices=rows, sample_indices=numbers)
