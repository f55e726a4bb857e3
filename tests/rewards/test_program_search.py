"""Search for reward programs: mutation, comparisons, proposers, no score seen."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import numpy as np
import pytest

from rlhf_jax.rewards import ChatModel
from rlhf_jax.rewards.programs import (
    Grammar,
    ProgramError,
    ProposeContext,
    RankedRound,
    Trial,
    Weighted,
    best_and_worst,
    chat_proposer,
    grammar_proposer,
    mutated,
    parse_program,
    program_text,
    program_values,
    proposal_text,
    query_count,
    random_program,
    replay_proposer,
    search_programs,
    sum_program,
    trace_text,
    weighted_terms,
)

NAMES = ("goal", "dist", "coin")
GRAMMAR = Grammar(NAMES, (*NAMES, "exp(-dist/.2)"))


def parsed(source):
    return parse_program(source, NAMES)


def test_summands_by_hand():
    # 2 goal - (dist - 3 * -coin) - 4 goal = -2 goal - dist - 3 coin
    found = weighted_terms(parsed("2 * goal - (dist - 3 * -coin) - goal * 4"))
    assert found == [Weighted(-2.0, "goal"), Weighted(-1.0, "dist"), Weighted(-3.0, "coin")]
    whole = parsed("def reward(dist):\n    a = exp(dist)\n    return a / 2 + 1, {'a': a}")
    assert weighted_terms(whole) == [Weighted(1.0, "a / 2"), Weighted(1.0, "1")]


def test_a_sum_and_its_summands_are_inverse():
    terms = [Weighted(0.5, "goal"), Weighted(-1.25, "exp(-dist / 0.2)")]
    program = sum_program(terms, NAMES)
    assert str(program).endswith("return 0.5 * goal + -1.25 * exp(-dist / 0.2)")
    assert weighted_terms(program) == terms
    assert parsed(str(program)) == program
    given = {"goal": 1.0, "dist": 0.2, "coin": 0.0}
    np.testing.assert_allclose(program_values(program, given).rewards, 0.5 - 1.25 / np.e, rtol=1e-6)


def test_first_programs_have_one_to_four_terms_with_standard_weights():
    found = [weighted_terms(random_program(GRAMMAR, Random(f"{n}"))) for n in range(1000)]
    assert Counter(map(len, found)).keys() == {1, 2, 3, 4}
    weights = np.array([weight for each in found for weight, _ in each])
    assert abs(weights.mean()) < 0.08
    assert abs(weights.std() - 1.0) < 0.05
    assert random_program(GRAMMAR, Random("a")) == random_program(GRAMMAR, Random("a"))


def test_changes_have_their_shares():
    parent = parsed("1 * goal + 2 * dist")
    changes, factors = Counter(), []
    for n in range(1500):
        found = weighted_terms(mutated(parent, GRAMMAR, Random(f"{n}")))
        child = {term: weight for weight, term in found}
        signs = [np.sign(child.get(term, 1.0)) for term in ("goal", "dist")]
        kind = "add" if len(child) == 3 else "drop" if len(child) == 1 else "none"
        changes["flip" if -1.0 in signs else kind] += 1
        factors.append(abs(child.get("goal", 1.0)))
    for kind, share in {"add": 0.5, "drop": 0.15, "flip": 0.15, "none": 0.2}.items():
        assert abs(changes[kind] / 1500 - share) < 0.05, kind
    logs = np.log([x for x in factors if abs(x - 1.0) > 1e-9])
    assert abs(logs.std() - 0.5) < 0.05
    assert abs(len(logs) / 1500 - 0.5 * (1 - 0.075)) < 0.05


def test_the_worst_program_says_which_sign_to_avoid():
    parent, worst = parsed("1 * goal"), parsed("-3 * coin + 2 * dist")
    signs = {"coin": [], "dist": [], "exp(-dist / 0.2)": []}
    for n in range(1500):
        for weight, term in weighted_terms(mutated(parent, GRAMMAR, Random(f"{n}"), worst=worst)):
            if term != "goal":
                signs[term].append(weight > 0)
    # 0.8 turned against it, and half of the other 0.2
    np.testing.assert_allclose([np.mean(x) for x in signs.values()], [0.9, 0.1, 0.5], atol=0.07)


def test_a_single_term_is_never_dropped_and_no_term_is_added_twice():
    full = sum_program(
        [Weighted(1.0, x) for x in ("goal", "dist", "coin", "exp(-dist / 0.2)")], NAMES
    )
    for n in range(200):
        assert len(weighted_terms(mutated(parsed("goal"), GRAMMAR, Random(f"{n}")))) >= 1
        assert len(weighted_terms(mutated(full, GRAMMAR, Random(f"{n}")))) <= 4


def test_mutants_keep_assignments_and_parts_and_stay_in_range():
    parent = parsed("def reward(dist):\n    a = exp(dist)\n    return 1e6 * a, {'a': a}")
    for n in range(50):
        child = mutated(parent, GRAMMAR, Random(f"{n}"))
        assert "a = exp(dist)" in str(child)
        assert "{'a': a}" in str(child)
        assert parsed(str(child)) == child


def test_49_comparisons_find_both_ends():
    assert query_count(5, 6) == 49
    for n in range(50):
        shown, asked = [Random(f"{n} {i}").random() for i in range(6)], []

        def beats(a, b, asked=asked):
            asked.append((a, b))
            return a > b

        best, worst, queries = best_and_worst(shown, beats)
        assert (best, worst) == (int(np.argmax(shown)), int(np.argmin(shown)))
        assert queries == len(asked) == 9
    assert best_and_worst([1, 1], lambda a, b: a > b)[:2] == (0, 1)


def searched(transform=lambda x: x, **sizes):
    """A search for a program with a high reward where goal = 1, dist = 0.5, coin = -1."""
    counted = Counter()

    def train(programs):
        given = {"goal": 1.0, "dist": 0.5, "coin": -1.0}
        return [Trial(p, transform(float(program_values(p, given).rewards)), {}) for p in programs]

    def beats(a, b):
        counted["asked"] += 1
        return a > b

    sizes = {"number": 6, "rounds": 5, **sizes}
    proposer = grammar_proposer(GRAMMAR)
    found = search_programs(proposer, train, beats, task="", rng=Random("s"), **sizes)
    return found, counted["asked"]


def test_a_search_counts_its_comparisons_and_keeps_what_beats_the_incumbent():
    found, asked = searched()
    assert found.queries == asked == 49
    scores = [trial.shown for trial in found.incumbents]
    assert scores == sorted(scores)
    assert scores[-1] == max(trial.shown for each in found.rounds for trial in each.trials)
    assert scores[-1] > scores[0]
    assert found.incumbent is found.incumbents[-1]


def test_only_the_order_of_scores_matters():
    plain, _ = searched()
    bent, _ = searched(lambda x: np.exp(3.0 * x) - 7.0)
    assert [t.program for t in plain.incumbents] == [t.program for t in bent.incumbents]
    other, _ = searched(lambda x: -x)
    assert other.incumbent.program != plain.incumbent.program


@pytest.mark.parametrize(("name", "value"), [("number", 1), ("rounds", 0)])
def test_sizes_of_a_search_are_checked(name, value):
    with pytest.raises(ValueError, match=f"{name} must be in"):
        searched(**{name: value})


def test_a_search_that_trains_too_few_is_stopped():
    with pytest.raises(ValueError, match="2 programs were asked for, 1 were trained"):
        search_programs(
            grammar_proposer(GRAMMAR),
            lambda programs: [Trial(programs[0], 0.0, {})],
            lambda a, b: False,
            task="",
            number=2,
            rounds=1,
            rng=Random(0),
        )


def context(*rounds):
    return ProposeContext("stay near", tuple(rounds))


def ranked(best, worst, traces=None):
    trials = (Trial(parsed(worst), "a video", {}), Trial(parsed(best), "a video", traces or {}))
    return RankedRound(trials, 1, 0, 1)


def test_a_proposer_without_the_worst_ignores_it():
    rounds = [context(ranked("goal", worst)) for worst in ("-3 * coin", "3 * coin")]
    free, bound = (
        [grammar_proposer(GRAMMAR, use_worst=use)(each, 40, Random("p")) for each in rounds]
        for use in (False, True)
    )
    assert free[0] == free[1]
    assert bound[0] != bound[1]


def test_programs_written_before_come_in_their_order():
    propose = replay_proposer([["goal", "dist"], ["coin", "goal"]], NAMES)
    assert propose(context(), 2, Random(0)) == [parsed("goal"), parsed("dist")]
    assert propose(context(ranked("goal", "dist")), 2, Random(0))[0] == parsed("coin")
    with pytest.raises(ValueError, match="round 0: 2 programs, not 3"):
        propose(context(), 3, Random(0))
    with pytest.raises(ProgramError, match="open is no function"):
        replay_proposer([["open('x')"]], NAMES)(context(), 1, Random(0))


def test_a_question_has_the_examples_and_no_score():
    first = ranked("1 * goal", "-1 * goal")
    second = ranked("2 * goal", "coin", {"goal": [0.0, 0.5, 1.0]})
    asked = proposal_text(context(first, second), {"goal": "1 at the goal"}, texts=("count",))
    assert "The task: stay near" in asked
    assert "goal: 1 at the goal" in asked
    assert 'count("text")' in asked
    best, worst = asked.index("return 2 * goal"), asked.index("return coin")
    assert asked.index("best in the last round") < best < asked.index("least:") < worst
    assert "-    return 1 * goal\n+    return 2 * goal" in asked
    assert "goal during training: [0, 0.5, 1], max 1, mean 0.5, min 0" in asked
    assert "video" not in asked
    assert "score" not in asked
    assert "best in the last round" not in proposal_text(context(), {"goal": ""})


def test_traces_have_about_ten_points():
    (line,) = trace_text({"a": list(range(100))}).splitlines()
    assert line.startswith("a during training: [0, 10, 20, 30, 40, 50, 60, 70, 80, 90], max 99")


def test_the_last_block_with_a_def_is_the_program():
    reply = (
        "```python\ndef a(): 1\n```\nor\n```python\ndef b(): 2\n```\nrun:\n```\npip install\n```"
    )
    assert program_text(reply) == "def b(): 2\n"
    assert program_text("goal + 1") == "goal + 1"


@pytest.fixture
def served():
    """A chat service with a list of replies; the last one is repeated."""
    replies, asked = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            text = replies.pop(0) if len(replies) > 1 else replies[0]
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            facts = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
            body = json.dumps({**facts, "choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", replies, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_at_an_address_is_asked_again_for_what_is_refused(served):
    pytest.importorskip("openai")
    url, replies, asked = served
    good = "```python\ndef reward(goal):\n    return 2 * goal\n```"
    replies += ["```python\ndef reward(goal):\n    return open('x')\n```", "no code", good, good]
    refusals = Counter()
    model = ChatModel(url, "m", temperature=1.0, concurrency=1)
    variables = {"goal": "1 at the goal"}
    propose = chat_proposer(model, variables, refusals=refusals)
    assert propose(context(), 2, Random(0)) == [parsed("2 * goal")] * 2
    assert len(asked) == 4
    assert sum(refusals.values()) == 2
    assert asked[0]["temperature"] == 1.0
    assert "The task: stay near" in asked[0]["messages"][0]["content"]

    def check(program):
        raise ProgramError("never")

    with pytest.raises(ProgramError, match=r"'m' wrote 0 of 2 .* in 2 attempts; .*: never"):
        chat_proposer(model, variables, check=check, attempts=2)(context(), 2, Random(0))
