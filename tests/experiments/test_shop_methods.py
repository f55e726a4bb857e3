"""The table of methods: labels and claims by hand, every method and whole runs at toy size."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from shop_methods_toy import TINY, TOY, made
from tiny_folder import write_folder

from experiments.shop_methods import (
    claims,
    config,
    findings,
    labels,
    report,
    world,
)
from experiments.shop_methods import run as methods_run
from experiments.shop_methods.finished import config_of, show
from experiments.shop_methods.offline import OFFLINE
from experiments.shop_methods.online import ONLINE, update_tokens
from experiments.shop_methods.parts import labels_of
from rlhf_jax.recipes import adamw_cosine, grpo, text_task
from rlhf_jax.training import UserError, open_run

DATA = config.Data(prompts=4, labels=8, heldout=4)


def answers(gold, noisy):
    gold, noisy = np.array(gold, float), np.array(noisy, float)
    texts = [[f"answer {i} {k}" for k in range(4)] for i in range(len(gold))]
    return labels.Answers([f"prompt {i}" for i in range(len(gold))], texts, gold, noisy)


# Labels


def test_pairs_are_disjoint_and_not_ties_and_follow_the_noisy_utilities():
    """0.5 and 0.52 are a tie, so of the three ways to pair the second has two pairs."""
    found = labels.pairs_of(answers([[0.5, 0.52, 0.9, 0.1]], [[0.6, 0.5, 0.55, 0.9]]), DATA)
    assert [(row["chosen"], row["rejected"]) for row in found] == [
        ("answer 0 0", "answer 0 2"),  # the noise has turned this one round
        ("answer 0 3", "answer 0 1"),
    ]
    # 1 / (1 + exp(-20 (0.5 - 0.9))) = exp(-8) / (1 + exp(-8)).
    assert found[0]["prob"] == pytest.approx(np.exp(-8) / (1 + np.exp(-8)))
    assert labels.pairs_of(answers([[0.5, 0.5, 0.5, 0.5]], [[1, 2, 3, 4]]), DATA) == []


def test_a_ranking_has_minus_its_ranks_as_scores():
    found = labels.rankings_of(answers([[0.1, 0.2, 0.3, 0.9]], [[0.4, 0.1, 0.9, 0.2]]), DATA)
    assert found[0]["scores"] == [-1.0, -3.0, 0.0, -2.0]


def test_forms_read_as_many_choices():
    """24 pairs are there; 12 labels are 12 pairs, or four rankings of three choices."""
    gold = np.tile([0.1, 0.4, 0.7, 1.0], (12, 1))
    pairs, rankings = labels_of(answers(gold, gold), replace(DATA, labels=12), 0)
    assert (len(pairs), len(rankings)) == (12, 4)
    marked = labels.marked(pairs)
    assert len(marked) == 24
    assert sum(row["label"] for row in marked) == 12
    with pytest.raises(UserError, match=r"seed 3: the teacher tells 0 apart: lower data"):
        labels.first_labels([], 4, "seed 3")


def test_noisy_utilities_are_a_bradley_terry_teacher():
    """P(0.1 apart wins) = sigmoid(20 x 0.1) = 0.8808."""
    noise = np.asarray(jax.random.gumbel(jax.random.key(0), (20_000, 2)))
    noisy = np.array([0.6, 0.5]) + noise / 20.0
    assert abs(np.mean(noisy[:, 0] > noisy[:, 1]) - 0.8808) < 0.008  # three standard errors


# Methods


def test_every_name_of_the_config_is_one_method():
    assert list(OFFLINE) == list(dict.fromkeys(OFFLINE))
    assert {*OFFLINE} == {*config.OFFLINE}
    assert {*ONLINE} == {*config.ONLINE, *config.DIRECT}
    assert {*config.RATES} == {*config.METHODS}
    assert len(config.METHODS) >= 20
    assert sorted(config.Config().chosen()) == sorted(config.METHODS)
    assert config.Config().chosen()[: len(config.SEVERAL)] == config.SEVERAL
    mine = config.Config(model="folder", task="module:name")
    assert {*config.METHODS} - {*mine.chosen()} == {*config.DIRECT}


def test_config_names_what_does_not_exist():
    with pytest.raises(ValueError, match=r"methods must be of sft, .*, got 'prayer'"):
        config.Config(methods="dpo,prayer")
    with pytest.raises(ValueError, match="model must come with a task"):
        config.Config(model="folder")
    with pytest.raises(ValueError, match="methods must be without direct_rl"):
        config.Config(model="folder", task="module:name", methods="dpo,direct_rl")
    with pytest.raises(ValueError, match="answers must be a multiple of twice samples"):
        config.Online(answers=20)


def test_the_rate_in_the_state_is_that_of_the_optimizer():
    params, gradients = jnp.array([1.0, -2.0]), jnp.array([0.3, 0.1])
    found = []
    for optimizer in (world.rated(0.01, 5), adamw_cosine(0.01, 5)):
        state, now = optimizer.init(params), params
        for _ in range(3):
            updates, state = optimizer.update(gradients, state, now)
            now = optax.apply_updates(now, updates)
        found.append(np.asarray(now))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    assert not np.allclose(found[0], params)


def test_update_tokens_counts_what_is_learned_from_and_every_pass(lab):
    """Steps of 8 answers of 5 and 7 tokens: 96; of RAFT a quarter; of two passes twice as many."""
    lengths = np.array([5.0, 7.0])
    one, two = (grpo(lab, samples=4, epochs=epochs) for epochs in (1, 2))
    assert update_tokens(lengths, "grpo", one, 8) == 96.0
    assert update_tokens(lengths, "grpo", two, 8) == 192.0
    assert update_tokens(lengths, "raft", one, 8) == 24.0


@pytest.fixture
def lab(tmp_path):
    from rlhf_jax.labs.shop import shop_lab

    return shop_lab(TINY, tmp_path, seed=0)


# Measures, claims


def test_rank_stability_by_hand():
    """Seeds 0 and 1 agree; seed 2 turns one of three pairs round: tau = 1 - 2 / 3."""
    found = made({"dpo": [1, 1, 1], "ipo": [2, 2, 3], "kto": [3, 3, 2]})
    assert findings.rank_stability(found) == pytest.approx([1.0, 1 / 3, 1 / 3])


def test_the_frontier_is_the_best_gold_within_a_kl():
    found = made(
        {"dpo": [0.6, 0.6, 0.6], "ipo": [0.4, 0.7, 0.8]},
        {"dpo": [1.0, 1.0, 1.0], "ipo": [2.0, 2.0, 0.5]},
    )
    curve = findings.frontiers(found, ("dpo", "ipo"), np.array([0.0, 1.0, 2.0]))
    np.testing.assert_array_equal(curve, [[0.5, 0.6, 0.6], [0.5, 0.6, 0.7], [0.5, 0.8, 0.8]])


def verdicts(found):
    return {claim.statement.split(",")[0]: claim.verdict for claim in claims.all_claims(found, "8")}


def test_claims_hold_where_they_should_and_fail_where_they_should():
    golds = {"dpo": [0.55, 0.56, 0.54], "rloo": [0.6, 0.62, 0.61], "osp": [0.6, 0.6, 0.6]}
    golds["online_dpo"] = [0.6, 0.6, 0.6]
    kls = {"osp": [1.0, 1.1, 1.2], "osp_hard": [1.5, 1.6, 1.8], "online_dpo": [0.3, 0.2, 0.3]}
    changes = {"raft": {"power": 0.0}, "p3o": {"shift": 0.001}, "ppo": {"power": 0.4, "shift": 0.5}}
    good = made({**golds, "osp_hard": [0.1, 0.1, 0.1]}, kls, changes)
    assert set(verdicts(good).values()) == {"holds"}
    assert len(claims.all_claims(good, "8")) == 6
    assert good.league_gold(config.OFFLINE) == pytest.approx([0.55, 0.56, 0.54])
    swapped = {**kls, "osp": kls["osp_hard"], "osp_hard": kls["osp"]}
    worse = {name: dict.fromkeys(each, 0.2) for name, each in changes.items()}
    bad = made({**golds, "dpo": [0.9, 0.91, 0.9], "osp_hard": [1, 1, 1]}, swapped, worse)
    # Greedy answers no better than SFT's, 0.5.
    for each in bad.numbers.values():
        each[:] = [one._replace(greedy=np.array([0.49, 0.5])) for one in each]
    found = claims.all_claims(bad, "8")
    assert [claim.verdict for claim in found] == ["holds", *["fails"] * 5]


def test_direct_rl_is_compared_with_sft_at_its_gold_or_not_at_all():
    """SFT has gold 0.5 and loses 2 nats; direct RL with 1.8 keeps more, where its gold is 0.5."""
    golds = {"dpo": [0.6, 0.6, 0.6], "direct_rl": [0.5, 0.55, 0.6]}
    found = made(golds)
    found.numbers["direct_rl"] = [
        one._replace(forgetting=kept)
        for one, kept in zip(found.numbers["direct_rl"], [1.8, 1.8, 1.7], strict=True)
    ]
    (claim,) = claims.direct_claims(found, "8 labels")
    assert float(claim.value) == pytest.approx(0.7 / 3)
    assert claim.baseline == ("the methods from SFT", 0.0)
    assert claim.verdict == "holds"
    first = found.numbers["direct_rl"][0]
    found.numbers["direct_rl"][0] = first._replace(gold=np.full((2, 2), 0.4))
    (claim,) = claims.direct_claims(found, "8 labels")
    assert claim.verdict == "undecided"
    assert "gold 0.517 beside SFT's 0.500, undecided below it" in claim.statement
    assert claims.direct_claims(made({"direct_rl": [1, 1, 1]}), "8 labels") == []


def test_a_claim_that_ppo_meets_too_is_undecided():
    changes = {"raft": {"power": 0.0}, "p3o": {"shift": 0.0}, "ppo": {"power": 0.0, "shift": 0.0}}
    found = claims.invariance_claims(made({"dpo": [1, 1, 1]}, changes=changes))
    assert [claim.verdict for claim in found] == ["undecided", "undecided"]
    del changes["raft"]
    (claim,) = claims.invariance_claims(made({"dpo": [1, 1, 1]}, changes=changes))
    assert claim.statement.startswith("P3O")


def test_the_sweep_has_the_rates_of_each_method():
    found = made({"dpo": [1, 1, 1], "sft": [1, 1, 1]})
    found.sweep.update(dpo={0.1: 0.5, 0.3: 0.6, 0.9: 0.2}, sft={0.2: 0.5, 0.6: 0.4, 1.8: 0.3})
    found.rates.update(dpo=0.3, sft=0.2)
    assert report.sweep_table(found).rows == [
        ("dpo", "0.1: 0.500", "0.3: 0.600", "0.9: 0.200", "0.3"),
        ("sft", "0.2: 0.500", "0.6: 0.400", "1.8: 0.300", "0.2"),
    ]


# A user's task


def test_splits_are_cut_out_of_the_prompts_of_a_task():
    task = text_task([str(i) for i in range(36)], lambda p, a: {}, objective="x", heldout=4)
    found = world.with_splits(task).splits
    assert {name: len(part) for name, part in found.items()} == {
        "pairs": 12, "train": 12, "validation": 4, "heldout_pairs": 4, "heldout": 4,
    }  # fmt: skip
    taken = [i for part in found.values() for i in part]
    assert sorted(taken) == list(range(36))
    few = text_task(["a", "b"], lambda p, a: {}, objective="x", heldout=1)
    with pytest.raises(UserError, match="the task needs 16 prompts to train on at least, got 1"):
        world.with_splits(few)


MODULE = """
from rlhf_jax.recipes import text_task


def vowels(prompts, answers):
    shares = [sum(a.count(v) for v in "aeiou") / (1 + len(a)) for a in answers]
    return {"vowels": shares, "length": [len(a) for a in answers]}


def make():
    words = ["sky", "grass", "snow", "coal", "sea", "blood", "gold", "milk", "red", "blue"]
    prompts = [f"The {a} is {b}" for a in words for b in words]
    return text_task(prompts, vowels, objective="vowels", heldout=5)


number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_shop_methods_task.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_shop_methods_task"


def test_a_task_is_read_from_a_module(module):
    assert len(world.open_task(f"{module}:make").splits["train"]) == 95
    with pytest.raises(UserError, match=r"expected module:name"):
        world.open_task("make")
    with pytest.raises(UserError, match=r"no recipes.Task but 3"):
        world.open_task(f"{module}:number")
    with pytest.raises(UserError, match=r"ModuleNotFoundError"):
        world.open_task("nowhere_at_all:make")


def test_the_stories_are_a_task():
    task = world.open_task("examples.stories.task:make")
    assert len(task.splits["heldout"]) == 24
    assert task.score is not None
    found = task.score(np.array([0, 1]), [" A dog ran. They were happy. The", " He was sad."])
    assert found == {"dog": [1.0, 0.0], "happy": [1.0, 0.0], "story": [1.0, 0.0]}


# Whole runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("methods")
    small = replace(TOY, methods="dpo,osp,osp_hard", seeds=2, tune=True)
    with open_run(out, slug="shop_methods", config=small) as job:
        return out, methods_run.run(small, job)


def test_a_run_writes_the_table_the_sweep_and_the_frontier(finished):
    out, outcome = finished
    assert {path.name for path in (out / "plots").glob("*.png")} == {"frontier.png"}
    names = [row[0] for row in outcome.table.rows]
    assert names == ["SFT", "dpo", "osp", "osp_hard", "best of 2"]
    assert all(len(row) == len(outcome.table.headers) for row in outcome.table.rows)
    found = outcome.numbers
    assert len(found["methods"]["dpo"]) == 2
    assert {*found["sweep"]["dpo"]} == {"7e-05", "0.0002", "0.0006"}
    assert found["rates"]["osp_hard"] == found["rates"]["osp"]
    best = max(found["sweep"]["dpo"].values())
    assert found["sweep"]["dpo"][f"{found['rates']['dpo']:g}"] == best
    assert len(found["tau"]) == 1
    assert all(one["tokens"] > 0 for each in found["methods"].values() for one in each)


def test_the_table_of_a_stopped_run_is_that_of_its_finished_stages(finished, capsys):
    out, outcome = finished
    show(out)
    assert "osp_hard" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["numbers"]["methods"] == json.loads(json.dumps(outcome.numbers["methods"]))
    assert config_of(summary["config"]).methods == "dpo,osp,osp_hard"


@pytest.mark.long
@pytest.mark.parametrize(
    ("methods", "needed"),
    [
        ("sft", ["labels_heldout", "labels_0", "reference_0", "reward_0", "heldout_start_0",
                 "best_of_0", "sft_0_0.0018", "heldout_sft_0"]),
        ("direct_rl", ["labels_heldout", "labels_0", "reference_0", "reward_0", "critic_0",
                       "heldout_start_0", "heldout_base_0", "best_of_0", "direct_rl_0_0.0002",
                       "heldout_direct_rl_0"]),
    ],
)  # fmt: skip
def test_a_run_has_no_more_stages_than_its_methods_need(methods, needed, tmp_path):
    """With controls switched on, and three seeds of a method that has one."""
    small = replace(TOY, methods=methods, controls=config.Controls(steps=1))
    with open_run(tmp_path, slug="shop_methods", config=small) as job:
        outcome = methods_run.run(small, job)
        assert list(job.done) == needed
    assert outcome.table is not None
    names = [row[0] for row in outcome.table.rows]
    assert names == ["SFT", methods, *(["base"] if methods == "direct_rl" else []), "best of 2"]


@pytest.mark.long
def test_the_table_of_a_users_model_and_task(module, tmp_path):
    write_folder(tmp_path / "model")
    mine = replace(
        TOY,
        methods="dpo,grpo,raft",
        model=str(tmp_path / "model"),
        task=f"{module}:make",
        prompt_length=8,
        answer_length=8,
        online=config.Online(steps=1, answers=32),
        data=config.Data(prompts=32, labels=16, heldout=12, tie_gap=0.0),
        evaluation=config.Evaluation(prompts=4, validation=2, best_of=2, texts=2),
    )
    with open_run(tmp_path / "out", slug="shop_methods", config=mine) as job:
        outcome = methods_run.run(mine, job)
    assert outcome.table is not None
    assert [row[0] for row in outcome.table.rows] == ["SFT", "dpo", "grpo", "raft", "best of 2"]
    assert set(outcome.numbers["start"][0]["axes"]) == {"length"}
    assert "forgetting" not in outcome.numbers["start"][0]
