"""The same few steps on a reward and on the reward changed: what should not matter, and does it?

Each training draws with the same keys, so whatever the change leaves alone is the same to the last
bit, or to rounding where the change itself rounds.
"""

from random import Random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shop_methods.config import Config
from experiments.shop_methods.names import POWER, SHIFT
from experiments.shop_methods.online import ONLINE, fit_online
from experiments.shop_methods.parts import Part
from experiments.shop_methods.world import Tools
from rlhf_jax.recipes import Reward
from rlhf_jax.training import Run, Stage, run_stage
from rlhf_jax.types import Params, Prompts, Trajectory

PLAIN = "plain"
RATE = 0.0006


def control_changes(job: Run, tools: Tools, part: Part) -> dict[str, dict[str, float]]:
    """method -> change of the reward -> how far the params end from those of the plain reward, as a
    share of how far the training moves them; for the methods of `Config.changes`."""
    rewards = {
        PLAIN: part.reward(tools),
        POWER: powered(part.reward(tools), tools.config.controls.power),
        SHIFT: shifted(part.reward(tools), tools.config.controls.shift, part.seed),
    }
    found: dict[str, dict[str, float]] = {}
    for name, changes in tools.config.changes().items():
        done = {
            change: control(job, tools, part, name, change, rewards[change])
            for change in (PLAIN, *changes)
        }
        moved = distance(done[PLAIN], tools.start)
        found[name] = {change: distance(done[change], done[PLAIN]) / moved for change in changes}
    return found


def control(job: Run, tools: Tools, part: Part, name: str, change: str, reward: Reward) -> Params:
    """A short training."""

    def work(stage: Stage) -> tuple[Params, dict]:
        method, steps = ONLINE[name].make(tools, part), tools.config.controls.steps
        options: dict[str, Any] = {"method": method, "reward": reward, "steps": steps}
        return fit_online(stage, tools, part, RATE, **options), {}

    like = jax.eval_shape(tools.lab.policy.init, jax.random.key(0))
    return run_stage(job, control_name(name, change), work, like=like).arrays


def control_name(name: str, change: str) -> str:
    """The stage of a training."""
    return f"control_{name}_{change}"


def last_control(config: Config) -> str | None:
    """The last stage of `control_changes`, with which all are there; None without any."""
    changes = config.changes()
    return control_name(name := [*changes][-1], changes[name][-1]) if changes else None


def powered(reward: Reward, power: float) -> Reward:
    """exp(c r): another reward with the same order."""

    def scores(params: Any, given: Any, trajectory: Trajectory) -> jax.Array:
        return jnp.exp(power * reward.scores(params, given, trajectory))

    return reward._replace(scores=scores)


def shifted(reward: Reward, size: float, seed: int) -> Reward:
    """r plus a number of each prompt, normal with deviation `size`: the same differences."""

    def host(prompts: Prompts, found: Any) -> tuple[np.ndarray, dict]:
        del found
        numbers = np.asarray(prompts.indices).tolist()
        draws = [Random(f"shop_methods/shift/{seed}/{i}").gauss(0.0, size) for i in numbers]
        return np.array(draws, np.float32)[:, None], {}

    def scores(params: Any, given: Any, trajectory: Trajectory) -> jax.Array:
        return reward.scores(params, (), trajectory) + given

    return reward._replace(host=host, scores=scores)


def distance(params: Params, other: Params) -> float:
    """Euclidean, over all parameters."""
    gaps = jax.tree.map(lambda x, y: np.sum((np.asarray(x) - np.asarray(y)) ** 2), params, other)
    return float(np.sqrt(sum(map(float, jax.tree.leaves(gaps)))))
