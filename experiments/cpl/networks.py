"""What learns a policy from scored segments in the control panel, all on batches of one size."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from experiments.cpl.config import Control
from experiments.cpl.oracles import Trained, make_agent, play, step_advantages
from experiments.cpl.worlds import World
from rlhf_jax.algos import ranking, sft
from rlhf_jax.algos.control import iql
from rlhf_jax.algos.gradient import gradient_step, init_state
from rlhf_jax.checks import entries
from rlhf_jax.feedback.segments import cut_segments, cut_steps, draw_segments
from rlhf_jax.losses.preference import ranked_cpl_loss, segment_advantages
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.policies.network import (
    network_action_value,
    network_policy,
    network_value,
    summed_reward,
)
from rlhf_jax.types import ActionValueFn, Params, Policy, TrainState, Trajectory, Update, ValueFn

CONTRASTIVE = ("CPL", "CPL, bias 0.5", "CPL + BC", "CPL-KL")


class Segments(NamedTuple):
    """Scored segments [N, T].

    steps: observations and actions. after: the observations after them. ends: [N, T] 0 where the
    episode ended, else 1. scores: [N] sum of the critic's advantages.
    """

    steps: Trajectory
    after: Array
    ends: Array
    scores: Array


class Collected(NamedTuple):
    """The segments; success and mean advantage of a step, in the data and of the agent that labels
    when it acts without noise."""

    segments: Segments
    seen_success: Array
    seen_advantage: Array
    expert_success: Array
    expert_return: Array
    expert_advantage: Array


def collect(key: Key[Array, ""], trained: Trained, world: World, config: Control) -> Collected:
    """Segments of noisy episodes of the checkpoints, scored by the best agent's critic."""
    agent = make_agent(world, config)
    play_key, cut_key, test_key = jax.random.split(key, 3)
    each = config.episodes // config.checkpoints

    def behave(key, params):
        return play(key, world, agent, params, noise=config.noise, episodes=each)

    episodes = jax.vmap(behave)(jax.random.split(play_key, config.checkpoints), trained.behaviours)
    episodes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), episodes)
    gaps, after = step_advantages(agent, trained.expert, episodes, gamma=config.gamma)
    mask, length = episodes.trajectory.mask, config.length
    places = draw_segments(cut_key, mask, (config.segments,), length=length)
    steps = cut_segments(episodes.trajectory, places, length=length)
    cut = cut_steps((after, episodes.discounts, gaps), places, length=length)
    own = play(test_key, world, agent, trained.expert, noise=0.0, episodes=config.checks)
    own_gaps, _ = step_advantages(agent, trained.expert, own, gamma=config.gamma)
    return Collected(
        Segments(steps, cut[0], cut[1], cut[2].sum(-1)),
        jax.vmap(world.success)(episodes).mean(),
        gaps.sum() / mask.sum(),
        jax.vmap(world.success)(own).mean(),
        own.rewards.sum(-1).mean(),
        own_gaps.sum() / own.trajectory.mask.sum(),
    )


def make_policy(world: World, config: Control) -> Policy:
    """A softmax over actions; for continuous ones mu(s) in the place of logits, and
    log pi = -|a - mu(s)|^2, as in the authors' code."""
    if world.num_actions:
        return network_policy(world.num_inputs, world.num_actions, widths=config.widths)
    net = make_mlp((world.num_inputs, *config.widths, 1))

    def middle(params, inputs):
        return jnp.tanh(net.apply(params, inputs))

    def logps(params, inputs, actions):
        return -jnp.sum((actions - middle(params, inputs)) ** 2, axis=-1)

    return Policy(net.init, middle, logps)


def make_values(world: World, config: Control) -> tuple[ValueFn, ActionValueFn]:
    """V(s), and a function of (s, a) for Q and for the reward of a step."""
    values = network_value(world.num_inputs, widths=config.widths)
    if not world.num_actions:
        return values, network_action_value(world.num_inputs, 1, widths=config.widths)
    net = network_policy(world.num_inputs, world.num_actions, widths=config.widths)

    def taken(params, inputs, actions):
        return entries(net.logits(params, inputs), actions=actions)

    return values, ActionValueFn(net.init, taken)


def draw(key: Key[Array, ""], data: Any, config: Control) -> Any:
    """One list [1, K] of segments, all of which are compared with each other."""
    rows = jax.random.randint(key, (1, config.batch), 0, config.segments)
    return jax.tree.map(lambda x: x[rows], data)


def descend(
    key: Key[Array, ""],
    start: Any,
    update: Update[Any, Any],
    batch: Callable[[Key[Array, ""]], Any],
    *,
    steps: int,
) -> Any:
    """The state after so many updates on fresh batches."""

    def step(state, number):
        return update(state, batch(jax.random.fold_in(key, number)))[0], None

    return jax.lax.scan(step, start, jnp.arange(steps))[0]


def fit_clone(
    key: Key[Array, ""], start: Params, data: Segments, world: World, config: Control, *, steps: int
) -> Params:
    """Maximum likelihood of all segments (BC)."""
    policy, optimizer = make_policy(world, config), optax.adam(config.rate)
    update = sft.make_update(policy, optimizer)
    state = init_state(start, optimizer)
    return descend(
        key, state, update, lambda key: draw(key, data.steps, config), steps=steps
    ).params


def fit_better_half(
    key: Key[Array, ""], start: Params, data: Segments, world: World, config: Control
) -> Params:
    """Maximum likelihood of the better half of each list (SFT)."""
    policy, optimizer = make_policy(world, config), optax.adam(config.rate)

    def batch(key):
        lists = ranking.rank_lists(*draw(key, (data.steps, data.scores), config))
        return jax.tree.map(lambda x: x[:, : config.batch // 2], lists.answers)

    state = init_state(start, optimizer)
    return descend(key, state, sft.make_update(policy, optimizer), batch, steps=config.steps).params


def fit_contrastive(
    method: str,
    key: Key[Array, ""],
    start: Params,
    data: Segments,
    world: World,
    config: Control,
) -> Params:
    """One of CONTRASTIVE on lists of segments; the clone is the start, and the reference of
    CPL-KL."""
    policy, optimizer = make_policy(world, config), optax.adam(config.rate)
    alpha = config.kl_alpha if method == "CPL-KL" else config.alpha
    utility = partial(segment_advantages, alpha=alpha)
    refs = utility(policy.logps(start, data.steps.inputs, data.steps.actions), data.steps.mask)

    def against_clone(logps, *, ref_logps, scores, mask):
        return ranked_cpl_loss(logps - ref_logps, scores, mask, bias=config.kl_bias)

    def imitation(params, batch):
        steps = batch.answers
        return -jnp.mean(policy.logps(params, steps.inputs, steps.actions))

    kinds: dict[str, dict[str, Any]] = {
        "CPL": {"loss": ranked_cpl_loss},
        "CPL, bias 0.5": {"loss": partial(ranked_cpl_loss, bias=config.bias)},
        "CPL + BC": {"loss": ranked_cpl_loss, "penalty": imitation},
        "CPL-KL": {"loss": against_clone, "reads": ("scores", "ref_logps")},
    }
    update = ranking.make_update(policy, optimizer, logps=utility, **kinds[method])

    def batch(key):
        steps, scores, ref_logps = draw(key, (data.steps, data.scores, refs), config)
        return ranking.rank_lists(steps, scores, ref_logps=ref_logps)

    state = init_state(start, optimizer)
    return descend(key, state, update, batch, steps=config.steps).params


def fit_reward(
    key: Key[Array, ""], data: Segments, world: World, config: Control
) -> Float[Array, "N T"]:
    """Rewards of all steps by Bradley-Terry on partial returns of the same lists."""
    _, step_reward = make_values(world, config)
    reward, optimizer = summed_reward(step_reward), optax.adam(config.rate)

    def update(state: TrainState, batch):
        steps, scores = batch

        def objective(params):
            found = reward.scores(params, steps)
            # Bradley-Terry of all pairs is CPL with returns in the place of advantages.
            losses = ranked_cpl_loss(found, scores, jnp.ones(scores.shape, bool))
            return weighted_mean(losses), {}

        return gradient_step(state, objective, optimizer)

    init_key, draw_key = jax.random.split(key)
    params = descend(
        draw_key,
        init_state(step_reward.init(init_key), optimizer),
        update,
        lambda key: draw(key, (data.steps, data.scores), config),
        steps=config.reward_steps,
    ).params
    return step_reward.values(params, data.steps.inputs, data.steps.actions)


def fit_iql(
    beta: Array,
    key: Key[Array, ""],
    rewards: Float[Array, "N T"],
    data: Segments,
    world: World,
    config: Control,
) -> Params:
    """Implicit Q-learning on the learned rewards, for as many updates as BC and CPL together."""
    models = make_policy(world, config), *make_values(world, config)
    optimizer = optax.adam(config.iql_rate)
    update = iql.make_update(*models, optimizer, iql.IQLConfig(beta=beta))

    def batch(key):
        part, paid = draw(key, (data, rewards), config)
        return iql.Transitions(part.steps, part.after, paid, config.gamma * part.ends)

    *keys, draw_key = jax.random.split(key, 4)
    start = iql.init_iql(*(m.init(k) for m, k in zip(models, keys, strict=True)), optimizer)
    steps = config.clone_steps + config.steps
    return descend(draw_key, start, update, batch, steps=steps).policy.params
