"""One row for each update: what `test_update_contract` holds it to.

All are on the same table of 3 states and 4 actions, with plain gradient descent at rate 1, so that
the change of the params is minus the gradient.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlhf_jax.algos import (
    contrastive_reward,
    correction_model,
    entailment,
    meta_reward,
    online,
    ppo,
    preference,
    reward_ensemble,
    reward_model,
    sft,
    unpaired,
    user_reward,
    verdict_model,
)
from rlhf_jax.losses.contrastive import simcse_loss
from rlhf_jax.losses.games import inpo_loss, nash_md_pg_loss
from rlhf_jax.losses.group_policy_gradient import dapo_loss
from rlhf_jax.losses.pairwise_gradient import p3o_v1_loss
from rlhf_jax.losses.preference import dpo_loss, ipo_loss
from rlhf_jax.losses.reward import soft_margin_bradley_terry_loss
from rlhf_jax.ops.groups import pair_measures
from rlhf_jax.ops.masking import token_mean
from rlhf_jax.policies.latent import latent_reward, user_encoder
from rlhf_jax.policies.tabular import (
    tabular_policy,
    tabular_reward,
    tabular_rewriting,
    tabular_value,
)
from rlhf_jax.types import (
    FeatureReward,
    PreferenceBatch,
    RewardFn,
    TrainState,
    Trajectory,
    VerdictFn,
)

STATES, ACTIONS, ROWS, STEPS = 3, 4, 8, 3
POLICY = tabular_policy(STATES, ACTIONS)
VALUE = tabular_value(STATES)
REWARD = tabular_reward(STATES, ACTIONS)
SGD = optax.sgd(1.0)


def tree_norm(slopes):
    return np.sqrt(sum(np.sum(slope**2) for slope in jax.tree.leaves(slopes)))


class Case(NamedTuple):
    """norm: of a gradient, as the update reports it."""

    update: Callable
    params: Any
    batch: Any
    norm: Callable = tree_norm


def normal(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def random_trajectory(rng):
    states = jnp.asarray(rng.integers(0, STATES, (ROWS, STEPS)))
    actions = jnp.asarray(rng.integers(0, ACTIONS, (ROWS, STEPS)))
    lengths = rng.integers(1, STEPS + 1, (ROWS, 1))
    return Trajectory(states, actions, jnp.asarray(np.arange(STEPS) < lengths))


def pairwise_case(loss):
    rng = np.random.default_rng(0)
    pair = random_trajectory(rng), random_trajectory(rng)
    batch = PreferenceBatch(*pair, normal(rng, ROWS), normal(rng, ROWS), jnp.ones(ROWS))
    return Case(preference.make_update(POLICY, SGD, loss), normal(rng, STATES, ACTIONS), batch)


def reward_case():
    rng = np.random.default_rng(1)
    pair = random_trajectory(rng), random_trajectory(rng)
    batch = PreferenceBatch(*pair, weights=jnp.ones(ROWS))
    return Case(reward_model.make_update(REWARD, SGD), normal(rng, STATES, ACTIONS), batch)


def repaired_reward_case():
    rng = np.random.default_rng(8)
    pair = random_trajectory(rng), random_trajectory(rng)
    prefs = jnp.asarray(rng.uniform(size=ROWS), jnp.float32)
    columns = {"prefs": prefs, "gaps": normal(rng, ROWS)}
    batch = PreferenceBatch(*pair, weights=jnp.ones(ROWS), columns=columns)
    update = reward_model.make_update(REWARD, SGD, loss=soft_margin_bradley_terry_loss)
    return Case(update, normal(rng, STATES, ACTIONS), batch)


def shared_ensemble_case():
    """Three members: a table that they share, and one of their own that is added."""
    rng = np.random.default_rng(11)
    pair = random_trajectory(rng), random_trajectory(rng)
    reward = RewardFn(lambda key: {}, lambda p, x: REWARD.scores(p["trunk"] + p["head"], x))
    ensemble = reward_ensemble.shared_trunk(reward, members=3)
    params = {"trunk": normal(rng, STATES, ACTIONS), "head": normal(rng, 3, STATES, ACTIONS)}
    batch = PreferenceBatch(*pair, weights=jnp.ones(ROWS))
    return Case(reward_ensemble.make_shared_update(ensemble, SGD), params, batch)


def separate_ensemble_case():
    """Two members; their leading axes are made here, so that rows are first in the batch."""
    rng = np.random.default_rng(13)
    pair = random_trajectory(rng), random_trajectory(rng)
    batch = PreferenceBatch(*pair, weights=jnp.ones(ROWS))
    members = reward_ensemble.make_update(REWARD, SGD)
    twice = partial(jax.tree.map, lambda x: jnp.stack([x, x]))

    def update(state, batch):
        states = TrainState(state.params, twice(state.opt_state), twice(state.step))
        states, metrics = members(states, twice(batch))
        return states._replace(step=states.step[0]), metrics

    def norm(slopes):
        return sum(map(tree_norm, slopes))

    return Case(update, normal(rng, 2, STATES, ACTIONS), batch, norm)


def meta_cases():
    """MetaRM: one row of its pairs, and one of its three answers to each prompt."""
    rng = np.random.default_rng(14)
    pair = random_trajectory(rng), random_trajectory(rng)
    pairs = PreferenceBatch(*pair, weights=jnp.ones(ROWS))
    answers, params = [random_trajectory(rng) for _ in range(3)], normal(rng, STATES, ACTIONS)
    meta = meta_reward.make_update(REWARD, SGD, eta=0.5)

    def update(pairs, answers, state):
        stacked = jax.tree.map(lambda *x: jnp.stack(x, axis=-2), *answers)
        return meta(state, meta_reward.MetaBatch(pairs, stacked))

    return {
        "meta_pairs": Case(lambda state, x: update(x, answers, state), params, pairs),
        "meta_answers": Case(lambda state, x: update(pairs, x, state), params, answers),
    }


def contrastive_case():
    """Three features by table; a view scales each of them, in all rows alike."""
    rng = np.random.default_rng(15)
    pair = random_trajectory(rng), random_trajectory(rng)

    def features(params, trajectory, key):
        found = jax.vmap(REWARD.scores, (-1, None), -1)(params["table"], trajectory)
        return found * (1.0 + 0.5 * jax.random.normal(key, (3,)))

    model = FeatureReward(lambda key: None, features, lambda params, x: x @ params["head"])
    contrast = partial(simcse_loss, temperature=0.5)
    step = contrastive_reward.make_update(model, SGD, contrast=contrast, weight=0.7)
    key = jax.random.key(15)

    def update(state, pairs):
        return step(state, contrastive_reward.ContrastiveBatch(pairs, key))

    params = {"table": normal(rng, STATES, ACTIONS, 3), "head": normal(rng, 3)}
    batch = PreferenceBatch(*pair, weights=jnp.ones(ROWS))
    return Case(update, contrastive_reward.ContrastiveParams(params, None), batch)


def correction_case():
    """Both answers of a pair pass through the same states."""
    rng = np.random.default_rng(16)
    chosen, other = random_trajectory(rng), random_trajectory(rng)
    pair = chosen, replace(other, inputs=chosen.inputs)
    policy, rewrite = tabular_policy(STATES * ACTIONS, ACTIONS), tabular_rewriting(ACTIONS)
    update = correction_model.make_update(policy, rewrite, SGD, identity_weight=0.4)
    batch = PreferenceBatch(*pair, weights=jnp.ones(ROWS))
    return Case(update, normal(rng, STATES * ACTIONS, ACTIONS), batch)


def user_case():
    """Rows are users with three comparisons, some of them real; the latent is one number."""
    rng = np.random.default_rng(17)
    encoder, reward = user_encoder(2, 1, width=4), latent_reward(REWARD, latent_dim=1)
    step = user_reward.make_update(encoder, reward, SGD, beta=0.3)
    pair = (
        jax.tree.map(lambda *x: jnp.stack(x, axis=1), *(random_trajectory(rng) for _ in range(3)))
        for _ in range(2)
    )
    mask = jnp.asarray(rng.random((ROWS, 3)) < 0.7)
    context = user_reward.UserContext(normal(rng, ROWS, 3, 2), normal(rng, ROWS, 3, 2), mask)
    batch = user_reward.UserBatch(context, *pair, mask, normal(rng, ROWS))

    def update(state, batch):
        return step(state, replace(batch, noise=batch.noise[..., None]))

    first = user_reward.init_user_model(jax.random.key(17), encoder, reward)
    # Upwards, so that most hidden units are on.
    params = jax.tree.map(lambda x: x + 0.3 * jnp.abs(normal(rng, *x.shape)), first)
    return Case(update, params, batch)


def verdict_case():
    """A judge by a table for each of the two places, so that the order matters to it."""
    rng = np.random.default_rng(12)
    pair = random_trajectory(rng), random_trajectory(rng)

    def logps(params, first, second):
        orders = ((first, second), (second, first))
        margins = [REWARD.scores(params[0], a) - REWARD.scores(params[1], b) for a, b in orders]
        sides = [jnp.stack([x, jnp.zeros_like(x)], axis=-1) for x in margins]
        return jax.nn.log_softmax(jnp.stack(sides, axis=-2), axis=-1)

    judge = VerdictFn(lambda key: None, logps)
    params = normal(rng, STATES, ACTIONS), normal(rng, STATES, ACTIONS)
    batch = PreferenceBatch(*pair, weights=jnp.ones(ROWS))
    return Case(verdict_model.make_update(judge, SGD, consistency=0.3), params, batch)


def entailment_case():
    rng = np.random.default_rng(9)
    labels, answers = jnp.asarray(rng.random(ROWS) < 0.5), random_trajectory(rng)
    batch = entailment.EntailmentBatch(answers, labels, weights=jnp.ones(ROWS))
    return Case(entailment.make_update(REWARD, SGD), normal(rng, STATES, ACTIONS), batch)


def ppo_case(whiten):
    rng = np.random.default_rng(2)
    numbers = (normal(rng, ROWS, STEPS) for _ in range(4))
    batch = ppo.PPOBatch(random_trajectory(rng), *numbers, weights=jnp.ones(ROWS))
    config = ppo.PPOConfig(whiten_advantages=whiten, value_coef=0.5)
    params = ppo.ActorCritic(normal(rng, STATES, ACTIONS), normal(rng, STATES))
    return Case(ppo.make_update(POLICY, VALUE, SGD, config), params, batch)


def game_pairs_case():
    rng = np.random.default_rng(4)
    pair = random_trajectory(rng), random_trajectory(rng)
    names = ("ref_chosen_logps", "ref_rejected_logps", "old_gaps")
    columns = {name: normal(rng, ROWS) for name in names}
    batch = online.PairBatch(*pair, columns, jnp.ones(ROWS))
    update = online.make_pair_update(POLICY, SGD, partial(inpo_loss, beta=0.3, eta=2.0))
    return Case(update, normal(rng, STATES, ACTIONS), batch)


def game_answers_case():
    rng = np.random.default_rng(5)
    prefs = jnp.asarray(rng.uniform(size=ROWS), jnp.float32)
    columns = {"ref_token_logps": normal(rng, ROWS, STEPS), "prefs": prefs}
    batch = online.AnswerBatch(random_trajectory(rng), columns, jnp.ones(ROWS))
    update = online.make_answer_update(POLICY, SGD, partial(nash_md_pg_loss, beta=0.3))
    return Case(update, normal(rng, STATES, ACTIONS), batch)


def game_tokens_case():
    rng = np.random.default_rng(6)
    columns = {"old_token_logps": normal(rng, ROWS, STEPS) - 1.4, "advantages": normal(rng, ROWS)}
    batch = online.AnswerBatch(random_trajectory(rng), columns, jnp.ones(ROWS))
    loss = partial(dapo_loss, clip_eps_low=0.9, clip_eps_high=10.0)
    update = online.make_answer_update(POLICY, SGD, loss, reduction=token_mean)
    return Case(update, normal(rng, STATES, ACTIONS), batch)


def group_case():
    """Four answers to each prompt."""
    rng = np.random.default_rng(10)
    size, params = 4, normal(rng, STATES, ACTIONS)
    answers = jax.tree.map(
        lambda *x: jnp.stack(x, axis=1), *(random_trajectory(rng) for _ in range(size))
    )
    columns = {"old_logps": normal(rng, ROWS, size) - 4.0, "scores": normal(rng, ROWS, size)}
    batch = online.GroupBatch(answers, columns, jnp.ones(ROWS))
    loss, measures = (partial(x, clip_eps=0.9) for x in (p3o_v1_loss, pair_measures))
    return Case(online.make_group_update(POLICY, SGD, loss, measures=measures), params, batch)


def dro_case():
    rng = np.random.default_rng(7)
    numbers = normal(rng, ROWS), normal(rng, ROWS)
    batch = unpaired.UnpairedBatch(random_trajectory(rng), *numbers, weights=jnp.ones(ROWS))
    params = ppo.ActorCritic(normal(rng, STATES, ACTIONS), normal(rng, STATES))
    return Case(unpaired.make_dro_update(POLICY, VALUE, SGD, beta=0.3), params, batch)


def sft_case():
    rng = np.random.default_rng(3)
    params = normal(rng, STATES, ACTIONS)
    return Case(sft.make_update(POLICY, SGD), params, random_trajectory(rng))


CASES = {
    "dpo": pairwise_case(partial(dpo_loss, beta=0.3)),
    "ipo": pairwise_case(partial(ipo_loss, beta=0.3)),
    "reward_model": reward_case(),
    "repaired_reward_model": repaired_reward_case(),
    "shared_ensemble": shared_ensemble_case(),
    "separate_ensemble": separate_ensemble_case(),
    **meta_cases(),
    "contrastive_reward": contrastive_case(),
    "correction_model": correction_case(),
    "user_reward": user_case(),
    "verdicts": verdict_case(),
    "entailment": entailment_case(),
    "ppo": ppo_case(whiten=False),
    "ppo_whitened": ppo_case(whiten=True),
    "sft": sft_case(),
    "dro": dro_case(),
    "game_pairs": game_pairs_case(),
    "game_answers": game_answers_case(),
    "game_tokens": game_tokens_case(),
    "groups": group_case(),
}
CASES = {name: case._replace(update=jax.jit(case.update)) for name, case in CASES.items()}
