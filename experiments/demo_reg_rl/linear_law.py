"""The law in linear MDPs: LSVI-UCB-Ent with a clone of N demonstrations as its reference."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.demo_reg_rl.config import Config, Law
from experiments.demo_reg_rl.law import visits
from rlhf_jax.algos.planning import lsvi
from rlhf_jax.envs.linear_mdp import LinearMDP, random_linear_mdp, to_finite_mdp
from rlhf_jax.exact.finite_mdp import occupancy, regret, soft_optimal, trajectory_kl

SHAPE = (5, 6, 4)  # steps, states, actions
FEATURES = 3
EXPERT = 0.1  # KL weight of the expert, to the uniform policy
KINDS = ("linear clone", "linear, uniform demonstrations", "linear, fixed penalty")


class Rows(NamedTuple):
    """One run for each row. mdp, refs, betas: what is learned; kl: KL(expert || ref); goal: eps;
    worst: eps_E + 2 eps."""

    mdp: LinearMDP
    refs: np.ndarray
    betas: np.ndarray
    kl: np.ndarray
    goal: np.ndarray
    worst: np.ndarray


def linear_law(config: Config) -> dict[str, np.ndarray]:
    """Episodes until the bound of the fast rate, 1 / (2 beta) sum_h E_pi[max_a w^2] with w the
    widths of the plan and E the true law, is at most eps.

    Returns:
      "stop/..." and "share/..." of the kinds as in `law_runs`, [seeds, N, eps]; "kl" [seeds, N].
    """
    law = config.law
    with jax.enable_x64(True):
        parts = [rows_of(config.seed, number, law) for number in range(law.num_seeds)]
        rows = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        ended = run_rows(config.seed, rows, law)
    shape = (law.num_seeds, len(KINDS), len(law.demos), len(law.linear_epsilons))
    return {"kl": rows.kl.reshape(shape)[:, 0, :, 0]} | {
        f"{what}/{kind}/{law.bonus:g}": values.reshape(shape)[:, i]
        for what, values in ended.items()
        for i, kind in enumerate(KINDS)
    }


def rows_of(seed: int, number: int, law: Law) -> Rows:
    """Of one linear MDP: kinds, then demonstrations, then eps."""
    rng = np.random.default_rng((seed, number, 1))
    sizes = dict(zip(("horizon", "num_states", "num_actions"), SHAPE, strict=True))
    key = jax.random.fold_in(jax.random.key(seed + 1), number)
    mdp = random_linear_mdp(key, **sizes, num_features=FEATURES)
    tables = to_finite_mdp(mdp)
    uniform = jnp.full(SHAPE, -jnp.log(SHAPE[2]))
    expert = soft_optimal(tables, uniform, beta=EXPERT).logps
    goal = np.tile(law.linear_epsilons, len(law.demos))
    worst = float(regret(tables, expert)) + 2 * goal
    refs, betas, kls = [], [], []
    for kind in KINDS:
        added = np.diff((0, *law.demos))  # a set grows into the next
        shown = uniform if "uniform" in kind else expert
        laws = [np.asarray(x)[None].repeat(len(added), 0) for x in (shown, tables.transitions)]
        seen = visits(rng, added, laws[0], laws[0], laws[1]).sum(-1).cumsum(0)
        clones = np.log((seen + 1) / (seen.sum(-1, keepdims=True) + SHAPE[2]))
        kl = [float(trajectory_kl(tables, expert, jnp.asarray(each))) for each in clones]
        kl = np.repeat(kl, len(law.linear_epsilons))
        kls.append(kl)
        refs.append(np.repeat(clones, len(law.linear_epsilons), 0))
        betas.append(goal.max() / kl.max() + 0 * goal if "fixed" in kind else goal / kl)
    count = len(KINDS) * len(goal)
    copies = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], count, 0), mdp)
    goals = (np.tile(goal, len(KINDS)), np.tile(worst, len(KINDS)))
    return Rows(copies, np.concatenate(refs), np.concatenate(betas), np.concatenate(kls), *goals)


@partial(jax.jit, static_argnames="bonus")
def _plans(counts, mdps, refs, betas, bonus):
    """Of each row: policy, policy of the widest actions [H, S, A], bound, V* - V."""

    def one(counts, mdp, ref, beta):
        tables = to_finite_mdp(mdp)
        state = lsvi.from_counts(mdp.features, counts, ridge=1.0)
        over, under = (
            lsvi.soft_plan(state, mdp.features, tables.rewards, ref, beta=beta, bonus=sign * bonus)
            for sign in (1, -1)
        )
        widths = over.action_values - under.action_values
        reached = occupancy(tables, over.logps)
        bound = jnp.sum(reached * jnp.max(widths, axis=-1) ** 2) / (2 * beta)
        widest = jnp.argmax(widths, axis=-1)[..., None] == jnp.arange(SHAPE[2])
        return over.logps, jnp.where(widest, 0.0, -jnp.inf), bound, regret(tables, over.logps)

    return jax.vmap(one)(counts, mdps, refs, betas)


def run_rows(seed: int, rows: Rows, law: Law) -> dict[str, np.ndarray]:
    """[R] "stop", 1 at least, and "share" of each row, infinite where the limit came first."""
    rng = np.random.default_rng((seed, 2))
    mdps, refs, betas = (jax.tree.map(jnp.asarray, each) for each in rows[:3])
    moves = np.asarray(jax.jit(jax.vmap(lambda mdp: to_finite_mdp(mdp).transitions))(mdps))
    counts = np.zeros(moves.shape)
    stop, share, time = np.full(len(rows.goal), np.inf), np.full(len(rows.goal), np.inf), 0
    while np.isinf(stop).any():
        found = _plans(jnp.asarray(counts), mdps, refs, betas, bonus=law.bonus)
        logps, widest, bound, left = (np.asarray(x) for x in found)
        now = np.isinf(stop) & (bound <= rows.goal)
        stop[now], share[now] = max(time, 1), (left / rows.worst)[now]
        live = np.flatnonzero(np.isinf(stop))
        block = max(1, int(law.growth * time))
        if time + block > law.most:
            break
        asked = logps[live], widest[live], moves[live]
        counts[live] += visits(rng, np.full(len(live), block), *asked)
        time += block
    return {"stop": stop, "share": share}
