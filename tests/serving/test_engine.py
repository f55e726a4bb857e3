"""Answers that are decoded together: the same as alone, in few shapes, and rows that are freed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_server import LONGEST, MODEL, ids_of, tiny_engine, tiny_params

from rlhf_jax.policies.language import language_decoder, language_policy, language_trajectory
from rlhf_jax.sampling.decode import SamplingConfig, sample
from rlhf_jax.serving import Ask, Job
from rlhf_jax.serving.engine import CHUNK
from rlhf_jax.serving.programs import compiled_count

PROMPTS = [ids_of("Once upon"), ids_of("a"), (1,), ids_of("x" * 70)]


@pytest.fixture(scope="module")
def engine():
    return tiny_engine()


def run(engine, asks, *, until=None):
    """The pieces of each answer, asked for at once."""
    pieces = [[] for _ in asks]
    jobs = [Job(ask, found.append) for ask, found in zip(asks, pieces, strict=True)]
    for job in jobs:
        engine.submit(job)
    while engine.step():
        pass
    return pieces


def drawn(pieces):
    """The tokens of an answer."""
    return [token for piece in pieces if not piece.prompt for token in piece.tokens]


def ids(pieces):
    return [token.id for token in drawn(pieces)]


def ask(prompt, **options):
    return Ask(**{"prompt": prompt, "max_tokens": 20, "temperature": 0.0} | options)


@pytest.mark.long
def test_greedy_answers_are_those_of_the_sampler(engine):
    found = run(engine, [ask(prompt) for prompt in PROMPTS])
    config = SamplingConfig(max_new_tokens=20, temperature=0.0, stop_ids=(2,))
    columns = max(map(len, PROMPTS))
    rows = np.array([[0] * (columns - len(p)) + list(p) for p in PROMPTS])
    mask = np.array([[False] * (columns - len(p)) + [True] * len(p) for p in PROMPTS])
    numbers, draw = (
        jnp.arange(len(PROMPTS)),
        jax.jit(
            lambda *given: sample(
                language_decoder(MODEL),
                *given,
                config=config,
                prompt_indices=numbers,
                sample_indices=numbers,
            )
        ),
    )
    wanted = draw(tiny_params(), rows, mask, jax.random.key(0))
    for pieces, actions, real, logps in zip(
        found, wanted.trajectory.actions, wanted.trajectory.mask, wanted.token_logps, strict=True
    ):
        assert ids(pieces) == actions[real].tolist()
        assert [token.logp for token in drawn(pieces)] == pytest.approx(
            logps[real].tolist(), abs=1e-5
        )
        assert pieces[-1].finish == ("stop" if ids(pieces)[-1] == 2 else "length")


@pytest.mark.long
def test_an_answer_depends_on_its_seed_and_not_on_its_company(engine):
    one = ask(PROMPTS[0], temperature=1.0, seed=7)
    (alone,) = run(engine, [one])
    others = [ask(PROMPTS[3], temperature=0.7, top_p=0.5), ask(PROMPTS[1], seed=3), one]
    assert ids(run(engine, others)[2]) == ids(alone)
    again = [ask(PROMPTS[0], temperature=1.0, seed=7, sample=i) for i in range(2)]
    first, second = run(engine, again)
    assert ids(first) == ids(alone) != ids(second)


@pytest.mark.long
def test_a_tiny_top_p_takes_the_likeliest_token(engine):
    greedy, nucleus = run(engine, [ask(PROMPTS[0]), ask(PROMPTS[0], temperature=1.0, top_p=1e-6)])
    assert ids(greedy) == ids(nucleus)


@pytest.mark.long
def test_prompts_are_scored_as_the_policy_scores_them(engine):
    prompt = PROMPTS[3]
    (pieces,) = run(engine, [ask(prompt, max_tokens=0, scores=True)])
    row = np.array([prompt])
    real = np.ones_like(row, bool)
    trajectory = language_trajectory(row[:, :1], real[:, :1], row[:, 1:], real[:, 1:])
    logps = jax.jit(language_policy(MODEL).logps)(
        tiny_params(), trajectory.inputs, trajectory.actions
    )
    tokens = pieces[0].tokens
    assert [token.id for token in tokens] == list(prompt[1:])
    assert [token.logp for token in tokens] == pytest.approx(logps[0].tolist(), abs=1e-5)
    assert all(token.likeliest[0][1] >= token.logp for token in tokens)
    assert (pieces[-1].finish, drawn(pieces)) == ("length", [])


@pytest.mark.long
def test_a_cancelled_answer_makes_room(engine):
    small = tiny_engine(batch=1, stop_ids=())
    small.programs = engine.programs
    pieces = [[], []]
    long, short = (Job(ask(PROMPTS[0], max_tokens=100), found.append) for found in pieces)
    small.submit(long)
    small.submit(short)
    assert small.step()
    assert (len(drawn(pieces[0])), len(small.waiting)) == (CHUNK, 1)
    long.cancelled = True
    assert small.step()
    assert (len(drawn(pieces[0])), len(drawn(pieces[1]))) == (CHUNK, CHUNK)
    assert small.held == [short]


def test_a_failure_ends_every_answer_with_its_reason():
    engine = tiny_engine()
    pieces = []
    engine.submit(Job(ask(PROMPTS[0]), pieces.append))
    engine.fail("no memory")
    assert pieces[0].error == "no memory"
    assert not engine.step()


@pytest.mark.long
def test_the_number_of_programs_is_bounded(engine):
    """Columns 64, 128 and 200; batches 1, 2 and 4; slots 64, 128 and 256."""
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 4, 9):
        asks = [
            ask(
                (1, *rng.integers(4, 260, size=rng.integers(0, 150)).tolist()),
                max_tokens=int(rng.integers(1, LONGEST - 151)),
                temperature=float(rng.uniform(0, 2)),
                top_p=float(rng.uniform(0.1, 1)),
                seed=int(rng.integers(100)),
                scores=bool(rng.integers(2)),
                likeliest=bool(rng.integers(2)),
            )
            for _ in range(count)
        ]
        assert all(pieces[-1].finish for pieces in run(engine, asks))
    # prefill and score 9 each, start 9, take and decode 9 each, stack 9, resize 9 of 1 row.
    assert compiled_count(engine.programs) <= 7 * 9
