"""The law itself: episodes until UCBVI-Ent+ stops, against demonstrations N and accuracy eps.

Episodes come in blocks, each a share of those before, so a plan serves all of its block and 10^12
episodes are some hundred plans. What a block visits is drawn at once, from multinomials.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.demo_reg_rl.config import Config, Law
from rlhf_jax.algos.planning import ucbvi
from rlhf_jax.envs.chains import combination_lock
from rlhf_jax.envs.tabular_mdp import FiniteMDP
from rlhf_jax.exact.finite_mdp import regret, soft_optimal, trajectory_kl

STEPS, STATES, ACTIONS = 5, 6, 4  # of the lock; its last state is the end
SHAPE = (STEPS, STATES, ACTIONS)
SUCCESS = 0.9
EXPERT = 0.002  # KL weight of the expert, to the uniform policy
THEORY = ucbvi.theory_bonus(
    horizon=STEPS, num_states=STATES, num_actions=ACTIONS, episodes=10**12, delta=0.1
)
DEMONSTRATED = ("clone", "uniform demonstrations", "fixed penalty", "uniform episodes")
ALONE = ("uniform reference", "UCBVI")


class Case(NamedTuple):
    """One run for each row. mdp, ref, beta: what is learned; goal: eps; worst: eps_E + 2 eps."""

    mdp: FiniteMDP
    ref: np.ndarray
    beta: np.ndarray
    goal: np.ndarray
    worst: np.ndarray


def law_runs(config: Config) -> dict[str, np.ndarray]:
    """Runs of every kind until the bound G of the plan is at most eps.

    clone: KL weight eps / KL(expert || clone). uniform demonstrations: the same with N episodes of
    the uniform policy in the place of the expert's. fixed penalty: the clone with the largest eps
    over KL of the fewest demonstrations. uniform episodes: the clone, but the episodes are those
    of the uniform policy. uniform reference, UCBVI: without demonstrations.

    Returns:
      Of each kind, with "/bonus" after its name for each of `bonuses` and "theory": "stop/..."
      episodes, infinite where the limit came first, and "share/..." V* - V of the policy over
      eps_E + 2 eps, infinite likewise, [seeds, N, eps] ([seeds, 1, eps] without demonstrations);
      "kl" and "alone" [seeds, N]: KL(expert || clone), and V* - V of the clone.
    """
    law = config.law
    with jax.enable_x64(True):
        worlds = [world(config.seed, seed, law) for seed in range(law.num_seeds)]
        bonuses = {f"{size:g}": ucbvi.Bonus(variance=size, visits=size) for size in law.bonuses}
        found = {name: np.stack([each[name] for each in worlds]) for name in ("kl", "alone")}
        for name, bonus in (bonuses | {"theory": THEORY}).items():
            middle = name == f"{law.bonus:g}"
            kinds = (*DEMONSTRATED, *ALONE) if middle else ("clone", *ALONE)
            cases = [cases_of(worlds, kind, law) for kind in kinds]
            joined = jax.tree.map(lambda *x: np.concatenate(x), *cases)
            aimless = np.repeat(np.equal(kinds, "uniform episodes"), [len(c.goal) for c in cases])
            ended = run_cases(config.seed, joined, aimless, bonus, law)
            ends = np.cumsum([len(c.goal) for c in cases])[:-1]
            for what, values in ended.items():
                for kind, part in zip(kinds, np.split(values, ends), strict=True):
                    shape = (law.num_seeds, -1, len(law.epsilons))
                    found[f"{what}/{kind}/{name}"] = part.reshape(shape)
    return found


def world(seed: int, number: int, law: Law) -> dict:
    """A lock, its expert, and clones of the expert's and of uniform episodes, of each size."""
    rng = np.random.default_rng((seed, number))
    key = jax.random.fold_in(jax.random.key(seed), number)
    mdp = combination_lock(key, horizon=STEPS, num_actions=ACTIONS, success=SUCCESS)
    uniform = np.full(SHAPE, -np.log(ACTIONS))
    expert = np.asarray(soft_optimal(mdp, jnp.asarray(uniform), beta=EXPERT).logps)
    refs = {}
    for name, logps in (("clone", expert), ("uniform demonstrations", uniform)):
        sizes = np.diff((0, *law.demos))  # a set grows into the next
        laws = [np.asarray(x)[None].repeat(len(sizes), 0) for x in (logps, mdp.transitions)]
        seen = visits(rng, sizes, laws[0], laws[0], laws[1]).sum(-1).cumsum(0)
        refs[name] = np.log((seen + 1) / (seen.sum(-1, keepdims=True) + ACTIONS))
    refs["uniform reference"] = uniform[None]

    def kl(logps):
        return trajectory_kl(mdp, jnp.asarray(expert), logps)

    kls = {name: np.asarray(jax.vmap(kl)(jnp.asarray(each))) for name, each in refs.items()}
    alone = jax.vmap(partial(regret, mdp))(jnp.asarray(refs["clone"]))
    left = float(regret(mdp, jnp.asarray(expert)))
    known = {"mdp": mdp, "refs": refs, "kls": kls, "expert": left}
    return known | {"kl": kls["clone"], "alone": np.asarray(alone)}


def cases_of(worlds: list[dict], kind: str, law: Law) -> Case:
    """Rows of one kind: worlds, then demonstrations, then eps."""
    goal = np.asarray(law.epsilons)
    rows = []
    for each in worlds:
        name = {"UCBVI": "uniform reference"}.get(kind, kind)
        name = name if name in each["refs"] else "clone"
        for ref, kl in zip(each["refs"][name], each["kls"][name], strict=True):
            beta = goal / kl
            if kind == "UCBVI":
                beta = 0 * goal
            if kind == "fixed penalty":
                beta = np.full_like(goal, goal.max() / each["kls"][name][0])
            of_all = jax.tree.map(
                lambda x: np.repeat(np.asarray(x)[None], len(goal), 0), each["mdp"]
            )
            ref = np.repeat(ref[None], len(goal), 0)
            rows.append(Case(of_all, ref, beta, goal, each["expert"] + 2 * goal))
    return jax.tree.map(lambda *x: np.concatenate(x), *rows)


def run_cases(
    seed: int, case: Case, aimless: np.ndarray, bonus: ucbvi.Bonus, law: Law
) -> dict[str, np.ndarray]:
    """[R] "stop" and "share" of each row, see `law_runs`."""
    rng = np.random.default_rng(seed)
    planned = jax.jit(jax.vmap(partial(_plan, bonus=bonus)))
    mdp = jax.tree.map(jnp.asarray, case.mdp)
    counts, moves = np.zeros((len(case.goal), *SHAPE, STATES)), np.asarray(mdp.transitions)
    stop = np.full(len(case.goal), np.inf)
    kept, uniform = np.full((len(stop), *SHAPE), -np.log(ACTIONS)), -np.log(ACTIONS)
    time = 0
    while np.isinf(stop).any():
        plan = planned(jnp.asarray(counts), mdp, jnp.asarray(case.ref), jnp.asarray(case.beta))
        logps, widest, gaps = (np.asarray(x) for x in plan)
        now = np.isinf(stop) & (gaps <= case.goal)
        stop[now], kept[now] = time, logps[now]
        live = np.flatnonzero(np.isinf(stop))
        block = max(1, int(law.growth * time))
        if time + block > law.most:
            break
        asked = [
            np.where(aimless[live, None, None, None], uniform, x[live]) for x in (logps, widest)
        ]
        counts[live] += visits(rng, np.full(len(live), block), *asked, moves[live])
        time += block
    left = np.asarray(jax.jit(jax.vmap(regret))(mdp, jnp.asarray(kept)))
    return {"stop": stop, "share": np.where(np.isinf(stop), np.inf, left / case.worst)}


def _plan(counts, mdp, ref, beta, *, bonus):
    """Policy, policy of the widest actions [H, S, A], and G of the initial state."""
    plan = ucbvi.confidence_plan(ucbvi.CountState(counts), mdp.rewards, ref, beta=beta, bonus=bonus)
    widest = jnp.argmax(plan.upper - plan.lower, axis=-1)[..., None] == jnp.arange(ACTIONS)
    return plan.logps, jnp.where(widest, 0.0, -jnp.inf), mdp.initial @ plan.gaps[0]


def visits(
    rng: np.random.Generator,
    episodes: np.ndarray,
    logps: np.ndarray,
    widest: np.ndarray,
    transitions: np.ndarray,
) -> np.ndarray:
    """Counts [R, H, S, A, S] of many episodes of `ucbvi.exploring_policy` at once, by their law.

    Whoever has not explored before step h of H does so there with probability 1 / (H + 1 - h),
    which is a step drawn uniformly from the H steps and "none".

    Args:
      episodes: [R] how many. logps, widest: [R, H, S, A] log-probs of the plan and of exploring.
      transitions: [R, H, S, A, S].
    """
    steps, states = logps.shape[1:3]
    plan, explore = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (logps, widest))
    found = np.zeros((len(episodes), *logps.shape[1:], states))
    fresh = np.zeros((len(episodes), states), np.int64)  # have not explored
    fresh[:, 0] = episodes
    done = np.zeros_like(fresh)
    for h in range(steps):
        leaves = rng.binomial(fresh, 1 / (steps + 1 - h))
        moves = []
        for here, law in ((fresh - leaves, plan), (done, plan), (leaves, explore)):
            after = rng.multinomial(rng.multinomial(here, law[:, h]), transitions[:, h])
            found[:, h] += after
            moves.append(after.sum((1, 2)))
        fresh, done = moves[0], moves[1] + moves[2]
    return found


def exponents(values: np.ndarray, demos: Sequence[int], epsilons: Sequence[float]) -> np.ndarray:
    """[seeds, 2] least-squares exponents of N and of 1 / eps in `values` [seeds, N, eps]."""
    n, inverse = np.meshgrid(np.log(demos), -np.log(epsilons), indexing="ij")
    design = np.stack([np.ones(n.size), n.ravel(), inverse.ravel()], 1)
    return np.linalg.lstsq(design, np.log(values).reshape(len(values), -1).T, rcond=None)[0][1:].T
