"""Labels by foresight and by simulated hindsight, and what DPO and PPO learn from them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from experiments.rlhs.config import Config
from experiments.rlhs.market import GOODS, STATES, Market, bits, means, open_market
from rlhf_jax.algos import ppo, preference, reward_model
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.bandit import all_actions, bandit_trajectory
from rlhf_jax.feedback.pairs import labels_to_pairs
from rlhf_jax.feedback.teachers import bt_labels
from rlhf_jax.feedback.values import simulated_facts
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.policies.tabular import tabular_policy, tabular_reward, tabular_value
from rlhf_jax.sampling.rollout import sample_actions
from rlhf_jax.types import PreferenceBatch

POLICY = tabular_policy(STATES, STATES)
VALUE = tabular_value(STATES)
REWARD = tabular_reward(STATES, STATES)
FORESIGHT, OWN, SHARED = range(3)  # kinds of labels


def label_kinds(config: Config) -> list[tuple[str, int, float]]:
    """(name, kind, q) of every set of labels, in the order of the arrays."""
    found = [("foresight", FORESIGHT, 1.0)]
    found += [(f"hindsight, q = {q:g}", OWN, q) for q in config.accuracies]
    return found + [(f"one imagined world, q = {q:g}", SHARED, q) for q in config.accuracies]


def labelled_pairs(
    config: Config, market: Market, key: Key[Array, ""], kind: Array, accuracy: Array
) -> PreferenceBatch:
    """Pairs of the reference's messages. The customer never tells the policy what happened: the
    outcome is in the label alone.

    Args:
      kind: FORESIGHT; OWN, an outcome simulated for each message; SHARED, for both in one world.
    """
    state_key, message_key, model_key, label_key = jax.random.split(key, 4)
    size = config.pairs
    states = jax.random.categorical(state_key, jnp.log(market.prior), shape=(size,))
    logits = market.ref_logits[states][:, None]
    messages = jax.random.categorical(message_key, logits, shape=(size, 2))
    facts = jnp.broadcast_to(jnp.asarray(bits())[states][:, None], (size, 2, GOODS))
    simulated = simulated_facts(model_key, facts, accuracy=accuracy)
    simulated = jnp.where(kind == SHARED, simulated[:, :1], simulated)
    imagined = jnp.sum(simulated * 2 ** jnp.arange(GOODS), axis=-1)
    foresight = market.satisfaction[states[:, None], messages]
    values = jnp.where(kind == FORESIGHT, foresight, market.utility[imagined, messages])
    labels = bt_labels(label_key, values, beta=config.rationality)
    both = bandit_trajectory(jnp.broadcast_to(states[:, None], messages.shape), messages)
    return labels_to_pairs(both, labels)


def counted(pairs: PreferenceBatch) -> PreferenceBatch:
    """The same pairs as counts [S, M, M] of (state, chosen, rejected): any mean is the same."""
    places = pairs.chosen.inputs[:, 0], pairs.chosen.actions[:, 0], pairs.rejected.actions[:, 0]
    counts = jnp.zeros((STATES,) * 3).at[places].add(pairs.weights)
    answers = bandit_trajectory(*all_actions(STATES, STATES))

    def spread(axis: int):
        shape = counts.shape
        return jax.tree.map(
            lambda x: jnp.broadcast_to(jnp.expand_dims(x, axis), (*shape, *x.shape[2:])), answers
        )

    return PreferenceBatch(spread(2), spread(1), weights=counts)


def train_dpo(config: Config, market: Market, pairs: PreferenceBatch) -> Float[Array, "T 3"]:
    """`means` before each step and at the end."""
    optimizer = optax.adam(config.rate)
    batch = preference.attach_reference(POLICY, market.ref_logits, pairs)
    update = preference.make_update(POLICY, optimizer, partial(dpo_loss, beta=config.beta))

    def step(state, _):
        return update(state, batch)[0], means(market, state.params)

    state = init_state(market.ref_logits, optimizer)
    return jax.lax.scan(step, state, length=config.steps + 1)[1]


def fit_rewards(config: Config, pairs: PreferenceBatch) -> Float[Array, "S M"]:
    """A table of scores by Bradley-Terry."""
    optimizer = optax.adam(config.rate)
    update = reward_model.make_update(REWARD, optimizer)
    state = init_state(jnp.zeros((STATES, STATES)), optimizer)
    step = jax.lax.scan(lambda s, _: (update(s, pairs)[0], None), state, length=config.steps)
    return step[0].params


def train_ppo(
    config: Config, market: Market, scores: Float[Array, "S M"], key: Key[Array, ""]
) -> Float[Array, "I 3"]:
    """PPO on these scores, from the reference: `means` before each iteration and at the end."""
    rules = ppo.PPOConfig(beta=config.beta, value_clip_eps=float("inf"), value_coef=0.5)
    optimizer = optax.adam(config.ppo_rate)
    update = ppo.make_update(POLICY, VALUE, optimizer, rules)
    rows = jnp.arange(config.prompts)

    def iteration(state, number):
        now = means(market, state.params.policy)
        state_key, draw_key = jax.random.split(jax.random.fold_in(key, number))
        states = jax.random.categorical(state_key, jnp.log(market.prior), shape=(config.prompts, 1))
        answers, logps = sample_actions(
            POLICY, state.params.policy, states, draw_key, prompt_indices=rows, sample_indices=rows
        )
        batch = ppo.make_batch(
            answers,
            REWARD.scores(scores, answers),
            old_logps=logps,
            ref_logps=token_logps(market.ref_logits[states], answers.actions),
            old_values=VALUE.values(state.params.value, states),
            config=rules,
        )
        return jax.lax.fori_loop(0, config.epochs, lambda _, s: update(s, batch)[0], state), now

    # The critic starts at the mean score of the reference.
    values = jnp.sum(jax.nn.softmax(market.ref_logits) * scores, axis=-1)
    state = init_state(ppo.ActorCritic(market.ref_logits, values), optimizer)
    return jax.lax.scan(iteration, state, jnp.arange(config.iterations + 1))[1]


def market_study(config: Config) -> dict[str, np.ndarray]:
    """dpo [N, kinds, steps + 1, 3], ppo [N, kinds, iterations + 1, 3] of `means`."""
    market = open_market()
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    _, kinds, accuracies = zip(*label_kinds(config), strict=True)

    def one(key: Array, kind: Array, accuracy: Array) -> dict[str, Array]:
        pairs = counted(labelled_pairs(config, market, key, kind, accuracy))
        ppo_key = jax.random.fold_in(key, 1)
        scores = fit_rewards(config, pairs)
        return {
            "dpo": train_dpo(config, market, pairs),
            "ppo": train_ppo(config, market, scores, ppo_key),
        }

    over_kinds = jax.vmap(one, (None, 0, 0))
    found = jax.jit(jax.vmap(over_kinds, (0, None, None)))(
        keys, jnp.asarray(kinds), jnp.asarray(accuracies)
    )
    return jax.tree.map(np.asarray, found)
