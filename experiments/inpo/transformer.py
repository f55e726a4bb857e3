"""INPO with Adam on a one-layer transformer that answers with one of three tokens."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from experiments.inpo.config import Config
from experiments.inpo.rounds import Game, all_pairs, sampled_wins
from rlhf_jax import Policy
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import PairBatch, make_pair_update
from rlhf_jax.losses.games import inpo_loss
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.language import language_policy, language_trajectory


def answers_of(size: int) -> Policy:
    """A language model whose first `size` tokens are the answers; the others cannot be given."""
    sizes = TransformerConfig(
        vocab_size=4, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=32
    )
    policy = language_policy(make_transformer(sizes))

    def logits(params, inputs):
        return policy.logits(params, inputs)[..., :size]

    def logps(params, inputs, actions):
        every = jax.nn.log_softmax(logits(params, inputs))
        return jnp.take_along_axis(every, actions[..., None], axis=-1)[..., 0]

    return Policy(policy.init, logits, logps)


def trajectory(answers: jax.Array):
    """A prompt of one token, the last of the vocabulary, and an answer of one."""
    ones = jnp.ones((*answers.shape, 1), bool)
    prompts = jnp.full((*answers.shape, 1), 3, jnp.int32)
    return language_trajectory(prompts, ones, answers[..., None], ones)


def train(game: Game, key: jax.Array, config: Config) -> jax.Array:
    """log pi [rounds + 1, 3]: in each round pairs from pi_t, bits, and a new Adam from pi_t."""
    size = game.ref_logps.size
    policy = answers_of(size)
    decay = optax.cosine_decay_schedule(config.transformer_rate, config.transformer_steps)
    optimizer = optax.adam(decay)
    loss = partial(inpo_loss, beta=game.beta, eta=game.eta)
    update = make_pair_update(policy, optimizer, loss)
    first, second = (trajectory(x) for x in all_pairs(jnp.arange(size)))
    everything = trajectory(jnp.arange(size))

    def policy_logps(params):
        return policy.logps(params, everything.inputs, everything.actions)[..., 0]

    def one(params, t):
        logps = policy_logps(params)
        old_first, old_second = all_pairs(logps)
        ref_first, ref_second = all_pairs(game.ref_logps)
        columns = {
            "ref_chosen_logps": ref_first,
            "ref_rejected_logps": ref_second,
            "old_gaps": old_first - old_second,
        }
        wins = sampled_wins(game, logps, jax.random.fold_in(key, t), config.pairs)
        batch = PairBatch(first, second, columns, wins)
        state = init_state(params, optimizer)
        state = jax.lax.fori_loop(
            0, config.transformer_steps, lambda _, state: update(state, batch)[0], state
        )
        return state.params, logps

    params = policy.init(jax.random.fold_in(key, 10**6))
    return jax.lax.scan(one, params, jnp.arange(config.transformer_rounds + 1))[1]
