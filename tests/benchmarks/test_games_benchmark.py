"""The benchmark of the game loop: its peers solve what the library solves; a goal can be missed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.games import many, one, peers
from benchmarks.games.library import BETA, ETA, Prepared, both, draw
from benchmarks.measure import Goal, deviations, fastest, in_turns, ratio, resident_growth

ROOT = Path(__file__).parents[2]
LOOPS = [peers.numpy_games_first, peers.numpy_games_last]
if importlib.util.find_spec("torch") is not None:
    LOOPS.append(peers.torch_game_by_game)


@pytest.mark.long
@pytest.mark.parametrize("loop", LOOPS)
def test_peers_agree_with_the_library(loop):
    prefs, ref = draw((8,), 5)
    forms = both(prefs, ref, iterations=30)
    want = {name: form.run() for name, form in forms.items()}
    got = loop(prefs, ref, eta=ETA, beta=BETA, iterations=30)
    for policies in want.values():
        np.testing.assert_allclose(got, policies, atol=1e-6)
    assert got.dtype == np.float32
    wrong = loop(prefs, ref, eta=ETA, beta=BETA, iterations=29)
    assert np.abs(wrong - got).max() > 1e-5


def test_inputs_of_the_peers_are_left_alone():
    prefs, ref = draw((4,), 3)
    before = prefs.copy(), ref.copy()
    for loop in LOOPS:
        loop(prefs, ref, eta=ETA, beta=BETA, iterations=3)
    np.testing.assert_array_equal(prefs, before[0])
    np.testing.assert_array_equal(ref, before[1])


def test_goals_on_either_side_of_their_bound():
    assert Goal(name="x", value=5.0, bound=5.0, at_least=True).met
    assert not Goal(name="x", value=4.9, bound=5.0, at_least=True).met
    assert Goal(name="x", value=1.5, bound=1.5).met
    assert not Goal(name="x", value=1.6, bound=1.5).met
    assert not Goal(name="x", value=float("nan"), bound=1.5).met
    assert str(Goal(name="x", value=1.6, bound=1.5)) == "goal: x <= 1.5: 1.6, MISSED"


def test_the_fastest_numpy_loop_is_the_one_to_beat():
    times = {"ours": [1.0, 1.0], many.FIRST: [9.0, 9.0], many.LAST: [4.0, 4.0]}
    agreement, numpy = many.goals(times, ["ours"], {"ours": 0.0, many.LAST: 2e-4})
    assert (agreement.met, numpy.met, numpy.value) == (False, False, 4.0)
    torch = many.goals(times | {many.TORCH: [150.0, 150.0]}, ["ours"], {"ours": 0.0})[-1]
    assert (torch.met, torch.value) == (True, 150.0)


def test_a_copy_of_the_large_matrix_misses_its_goal():
    times = {"ours": [3.0], one.THREADS: [4.0], one.SUM: [2.0]}
    for temp, resident, met in ((0.0, 0.0, True), (100.0, 0.0, False), (0.0, 100.0, False)):
        form = Prepared(run=lambda: np.zeros(1), temp=temp, resident=resident)
        _, time, scratch, grown = one.goals(times, {"ours": form}, {"ours": 0.0}, size=100)
        assert (time.value, time.met) == (1.5, True)
        assert (scratch.met and grown.met) is met
    unseen = Prepared(run=lambda: np.zeros(1), temp=0.0, resident=float("nan"))
    assert len(one.goals(times, {"ours": unseen}, {"ours": 0.0}, size=100)) == 3


def test_turns_ratios_and_deviations():
    order = []
    seconds = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 3, "b": 3}
    times = {"a": [1.0, 2.0, 3.0], "b": [2.0, 2.0, 12.0]}
    assert ratio(times, "b", "a") == 2.0
    assert fastest(times, ["a", "b"]) == "a"
    runs = {"all": lambda: np.zeros((3, 2)), "few": lambda: np.full((1, 2), 0.5)}
    assert deviations(runs) == {"all": 0.0, "few": 0.5}


def test_growth_of_the_process_is_seen():
    grown = resident_growth(lambda: np.ones(8_000_000))
    assert np.isnan(grown) or 50e6 < grown < 100e6


@pytest.mark.long
def test_the_command():
    command = [sys.executable, "-m", "benchmarks.games", "--quick"]
    settings = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, env=settings
    )
    assert done.returncode in (0, 3), done.stderr[-2000:]
    assert done.returncode == (3 if "MISSED" in done.stdout else 0)
    assert done.stdout.count("goal: deviation <= 0.0001") == 2
    assert "skipped" in done.stdout or "torch, game by game" in done.stdout
