"""MDPs as tables: what is refused, and that their environments follow them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs import tabular_mdp
from rlhf_jax.envs.tabular_mdp import DiscountedMDP, FiniteMDP, check_mdp
from rlhf_jax.exact import discounted_mdp, finite_mdp
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.episodes import policy_act, sample_episode

SIZES = {"horizon": 3, "num_states": 4, "num_actions": 2}
MDPS = jax.vmap(lambda key: tabular_mdp.random_mdp(key, **SIZES, reward_share=0.3))(
    jax.random.split(jax.random.key(1), 100)
)
FINITE = jax.tree.map(lambda x: x[0], MDPS)


def corridor() -> DiscountedMDP:
    """Three places in a row; action 1 moves right, the last place is the end; a step costs 1."""
    moves = np.zeros((3, 2, 3), np.float32)
    moves[[0, 1, 2], 0, [0, 1, 2]] = 1
    moves[[0, 1, 2], 1, [1, 2, 2]] = 1
    rewards = jnp.array([[-1.0, -1.0], [-1.0, -1.0], [0.0, 0.0]])
    initial = jnp.array([1.0, 0.0, 0.0])
    return DiscountedMDP(jnp.asarray(moves), rewards, initial, jnp.array(0.9))


def changed(field: str, place: tuple, value: float, mdp=FINITE):
    array = np.array(getattr(mdp, field))
    array[place] = value
    return replace(mdp, **{field: array})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("transitions", (1, 2, 0, 3), 7.0), "must sum to 1; at step 1, state 2, action 0 it"),
        (("transitions", (2, 0, 1, 3), -0.5), ">= 0; at step 2, state 0, action 1, next state 3"),
        (
            ("transitions", (0, 3, 1, 0), np.nan),
            "step 0, state 3, action 1, next state 0 it is nan",
        ),
        (("rewards", (0, 3, 1), np.nan), "must be finite; at step 0, state 3, action 1 it is nan"),
        (("rewards", (0, 3, 1), np.inf), "it is inf"),
        (("initial", (0,), 0.5), "initial must sum to 1; it is 0.5"),
        (("transitions", (2, 1), 0.1, corridor()), "must sum to 1; at state 2, action 1 it"),
    ],
)
def test_a_bad_entry_is_refused_by_name(change, words):
    with pytest.raises(ValueError, match=words):
        check_mdp(changed(*change))


@pytest.mark.parametrize(
    ("mdp", "words"),
    [
        (replace(FINITE, rewards=FINITE.rewards[:2]), "rewards must have shape"),
        (
            replace(corridor(), rewards=corridor().transitions),
            r"shape \(3, 2\), got \(3, 2, 3\); envs.table_formats.expected_rewards",
        ),
        (
            replace(corridor(), transitions=np.swapaxes(corridor().transitions, 0, 1)),
            r"S\], got \(2, 3, 3\); envs.table_formats.from_mdptoolbox takes \[A, S, S\]",
        ),
        (replace(FINITE, initial=FINITE.initial[:2]), "initial must have shape"),
        (replace(FINITE, transitions=FINITE.transitions[..., :3]), "H, S, A, S"),
        (
            FiniteMDP(np.zeros((0, 4, 2, 4)), np.zeros((0, 4, 2)), np.ones(4) / 4),
            "horizon, states and actions must be >= 1",
        ),
        (replace(corridor(), gamma=1.0), "gamma must be in .0, 1.; it is 1"),
        (replace(corridor(), gamma=-0.1), "gamma must be in"),
        (replace(corridor(), gamma=np.nan), "gamma must be in"),
    ],
)
def test_what_is_no_mdp_is_refused(mdp, words):
    with pytest.raises(ValueError, match=words):
        check_mdp(mdp)


def test_batches_are_checked_and_named():
    batch = jax.tree.map(lambda x: np.stack([x, x]), FINITE)
    jax.tree.map(np.testing.assert_array_equal, check_mdp(batch), batch)
    with pytest.raises(ValueError, match="batch axis 0 1, step 1, state 2, action 0"):
        check_mdp(changed("transitions", (1, 1, 2, 0, 3), 7.0, batch))


def lists(mdp: DiscountedMDP) -> DiscountedMDP:
    """Nested lists of integers, as a user may write a deterministic world."""
    whole = jax.tree.map(lambda x: np.asarray(x).astype(int).tolist(), mdp)
    return replace(whole, gamma=0.9)


@pytest.mark.long
@pytest.mark.parametrize(
    ("given", "double"), [(lists, False), (lambda mdp: jax.tree.map(np.float64, mdp), True)]
)
def test_a_checked_mdp_is_arrays_of_one_float_type_that_plan_and_play(given, double):
    """The corridor from its second place: one step of -1 to the end, so V = -1."""
    with jax.enable_x64(double):
        mdp = check_mdp(replace(given(corridor()), initial=[0, 1, 0]))
        assert {x.dtype for x in jax.tree.leaves(mdp)} == {jnp.dtype(float if double else "f4")}
        best = discounted_mdp.optimal(mdp)
        np.testing.assert_allclose(discounted_mdp.policy_return(mdp, best.logps), -1.0)
        act = policy_act(tabular_policy(3, 2), best.logps)
        episode = sample_episode(tabular_mdp.discounted_env(mdp), act, jax.random.key(0), steps=2)
        assert episode.rewards.tolist() == [-1.0, 0.0]


def test_a_single_precision_mdp_stays_so_in_double_precision():
    mdp = replace(corridor(), gamma=0.9)
    with jax.enable_x64(True):
        mdp = check_mdp(mdp)
        assert {x.dtype for x in jax.tree.leaves(mdp)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("make", "mdp", "state"),
    [(tabular_mdp.finite_env, FINITE, (0, 0)), (tabular_mdp.discounted_env, corridor(), 0)],
)
def test_an_environment_of_numpy_tables_is_that_of_jax_tables(make, mdp, state):
    key, arrays = jax.random.key(0), jax.tree.map(np.asarray, mdp)
    seen, expected = (jax.jit(make(each).step)(key, state, 1) for each in (arrays, mdp))
    jax.tree.map(np.testing.assert_array_equal, seen, expected)


@pytest.mark.parametrize("field", ["horizon", "num_states", "num_actions"])
def test_random_mdps_need_sizes(field):
    sizes = {**SIZES, field: 0}
    with pytest.raises(ValueError, match="must be >= 1"):
        tabular_mdp.random_mdp(jax.random.key(0), **sizes)


def test_random_mdps_are_mdps_with_the_rewards_asked_for():
    check_mdp(MDPS)
    assert 0.27 <= float(jnp.mean(MDPS.rewards > 0)) <= 0.33  # 2,400 of them
    assert float(MDPS.rewards.min()) == 0.0
    assert float(MDPS.rewards.max()) <= 1.0
    assert MDPS.initial.tolist() == [[1.0, 0.0, 0.0, 0.0]] * 100


def test_absorbing_states():
    mdp = corridor()
    assert tabular_mdp.absorbing_states(mdp).tolist() == [False, False, True]
    paid = replace(mdp, rewards=mdp.rewards.at[2, 0].set(0.1))
    assert tabular_mdp.absorbing_states(paid).tolist() == [False, False, False]
    both = jax.tree.map(lambda x, y: jnp.stack([x, y]), mdp, paid)
    assert tabular_mdp.absorbing_states(both).tolist() == [[False, False, True], [False] * 3]


@pytest.mark.long
def test_episodes_of_a_table_follow_its_law():
    """Visits, rewards and actions of 20,000 episodes against the exact occupancy."""
    policy, env = tabular_policy(12, 2), tabular_mdp.finite_env(FINITE)
    params = jax.random.normal(jax.random.key(2), (12, 2))
    act = policy_act(policy, params)

    @jax.jit
    def many(keys):
        return jax.vmap(lambda key: sample_episode(env, act, key, steps=4))(keys)

    episodes = many(jax.random.split(jax.random.key(3), 20_000))
    logps = jax.nn.log_softmax(params).reshape(3, 4, 2)
    visits = np.bincount(np.asarray(episodes.trajectory.inputs[:, :3]).ravel(), minlength=12)
    exact = finite_mdp.occupancy(FINITE, logps)
    np.testing.assert_allclose(visits.reshape(3, 4) / 20_000, exact, atol=0.015)
    returns = episodes.rewards.sum(1)
    np.testing.assert_allclose(
        returns.mean(),
        finite_mdp.policy_return(FINITE, logps),
        atol=4 * returns.std() / 20_000**0.5,
    )
    # The fourth step is after the end.
    assert episodes.trajectory.mask.sum(1).tolist() == [3] * 20_000
    assert not episodes.rewards[:, 3].any()
    assert episodes.discounts[0].tolist() == [1.0, 1.0, 0.0, 0.0]
    taken = jnp.take_along_axis(
        jax.nn.log_softmax(params)[episodes.trajectory.inputs],
        episodes.trajectory.actions[..., None],
        axis=-1,
    )[..., 0]
    np.testing.assert_allclose(episodes.token_logps[:, :3], taken[:, :3], rtol=1e-5)
    assert not episodes.token_logps[:, 3].any()


@pytest.mark.long
def test_an_episode_ends_on_entering_an_absorbing_state():
    env = tabular_mdp.discounted_env(corridor())

    def right(key, observation):
        return jnp.ones((), int), jnp.zeros(())

    episode = sample_episode(env, right, jax.random.key(0), steps=4)
    assert episode.trajectory.inputs.tolist() == [0, 1, 2, 2]
    assert episode.trajectory.mask.tolist() == [True, True, False, False]
    assert episode.rewards.tolist() == [-1.0, -1.0, 0.0, 0.0]
    assert episode.discounts.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert episode.states.tolist() == [0, 1, 2, 2, 2]
    assert int(episode.last_observation) == 2
    with pytest.raises(ValueError, match=r"steps must be in \[1, inf\), got 0"):
        sample_episode(env, right, jax.random.key(0), steps=0)
