"""How many updates to a gap of 1e-6, on rock-paper-scissors, as beta falls."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.nash_mp.config import Config
from experiments.nash_mp.curves import KEY, TOLERANCE, known_cycle, largest_step
from rlhf_jax.algos import games
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.steps import decaying_steps
from rlhf_jax.ops.games import regularised_gap


def needed_updates(config: Config) -> dict[str, np.ndarray]:
    """method -> [betas, seeds]; for mirror descent the fewest over many constant steps.

    `most_updates` stands for more than that.
    """

    def mirror_descent(ref, beta, share):
        return games.mirror_descent(ref, eta=beta * (1.0 + 24.0 * share), beta=beta)

    def nash_md(ref, beta, share):
        return games.nash_md(ref, eta=decaying_steps(beta), beta=beta)

    def nash_mp(ref, beta, share):
        return games.nash_mp(ref, eta=largest_step(beta), beta=beta)

    grid, one = jnp.linspace(0.0, 1.0, config.fine), jnp.zeros(1)
    rows = {"Nash-MP": (nash_mp, one), "OMD": (mirror_descent, grid), "Nash-MD": (nash_md, one)}
    with jax.enable_x64(True):
        prefs, refs = known_cycle(config)
        betas = jnp.asarray(config.betas)
        return {
            name: np.asarray(_count(make, prefs, refs, betas, shares, config.most_updates))
            for name, (make, shares) in rows.items()
        }


def _count(make, prefs, refs, betas, shares, most: int) -> jax.Array:
    """Updates until the first of the methods `make(ref, beta, share)` is there, [betas, seeds]."""

    def run(ref, beta):
        def each(function, *args):
            return jax.vmap(lambda share, *rest: function(make(ref, beta, share), *rest))(
                shares.astype(ref.dtype), *args
            )

        def advance(carry):
            states, count = carry
            states = each(
                lambda method, state: method.update(state, exact_oracle(prefs), KEY)[0], states
            )
            return states, count + 1

        def unfinished(carry):
            states, count = carry
            gaps = regularised_gap(prefs, states.logps, ref, beta=beta)
            return (jnp.min(gaps) >= TOLERANCE) & (count < most)

        start = each(lambda method: method.init(ref)), jnp.array(0)
        return jax.lax.while_loop(unfinished, advance, start)[1]

    return jax.jit(jax.vmap(jax.vmap(run, (0, None)), (None, 0)))(refs, betas)
