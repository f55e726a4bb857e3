"""The preferences experiment at toy size: a marker word decides, and everything must learn it."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.preferences import evaluate
from experiments.preferences.config import Config, Fit, default, quick
from experiments.preferences.data import (
    even_batches,
    first_of_each,
    lost_by_cutting,
    pair_rows,
    read_source,
    train_vocabulary,
)
from experiments.preferences.fold import (
    check_finite,
    fold_data,
    length_margins,
    prompts_asked,
    read_pairs,
)
from experiments.preferences.run import make_claims, run
from experiments.preferences.tools import make_tools, read_trunk
from rlhf_jax.data.preference_files import Pair
from rlhf_jax.data.splits import dialogue_opening
from rlhf_jax.hf import Pretrained, save_model
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.recipes.ngram_reward import Ngrams
from rlhf_jax.training import DivergedError, Interrupted, UserError, open_run

NOUNS = ("lamp", "chair", "kettle", "clock", "shelf", "carpet", "mirror", "basket")
VERBS = ("clean", "mend", "sell", "paint", "move")


def marker_rows(count: int) -> list[dict]:
    """Pairs in which the chosen answer, now the longer and now the shorter, says "gladly"."""
    rows = []
    for i in range(count):
        noun, verb = NOUNS[i % 8], VERBS[i % 5]
        long, short = f"you may {verb} the {noun} with care", f"{verb} it"
        chosen, rejected = (long, short) if i % 2 else (short, long)
        prompt = f"Human {i}: how do I {verb} a {noun}? Assistant:"
        rows.append(
            {
                "prompt": prompt,
                "chosen": f" gladly {chosen}",
                "rejected": f" sadly {rejected}",
                "source": "shop",
            }
        )
    return rows


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def toy(path) -> Config:
    """A model of a few thousand parameters and two folds."""
    return Config(
        data=path,
        folds=2,
        vocab_size=300,
        prompt_tokens=8,
        answer_tokens=24,
        d_model=16,
        num_layers=1,
        num_heads=2,
        batch=8,
        sft=Fit(epochs=6, learning_rate=1e-2),
        reward=Fit(epochs=8, learning_rate=1e-2),
        dpo=Fit(epochs=4, learning_rate=5e-3, weight_decay=0.0),
        ngrams=Ngrams(features=64, steps=100),
        sampled=6,
        kept=2,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of the toy: its folder, its outcome and its config."""
    folder = tmp_path_factory.mktemp("preferences")
    config = toy(write_rows(folder / "pairs.jsonl", marker_rows(48)))
    with open_run(folder / "out", slug="preferences", config=config) as job:
        outcome = run(config, job)
    return folder / "out", outcome, config


def test_reward_model_and_ngrams_learn_the_marker(finished):
    _, outcome, _ = finished
    found = outcome.numbers["preferences"]
    assert found["n-gram Bradley-Terry"]["accuracy"]["mean"] == 1.0
    assert found["reward model"]["accuracy"]["mean"] > 0.9
    assert found["DPO, implicit"]["accuracy"]["mean"] > 0.8
    assert found["longer wins"]["accuracy"]["mean"] == pytest.approx(0.5)
    assert found["shorter wins"]["accuracy"]["mean"] == pytest.approx(0.5)
    claim, over_length, _ = outcome.claims
    assert claim.statement == "reward model: accuracy, 48 held-out pairs, 2 folds"
    assert float(claim.value) == found["reward model"]["accuracy"]["mean"]
    # Two folds have an interval of t = 12.7 standard errors unless they agree.
    assert claim.verdict != "fails"
    assert over_length.verdict != "fails"
    # The marker is the first word: cut answers have it, and a quarter of the pairs show it.
    assert found["n-grams, answers cut"]["accuracy"]["mean"] == 1.0
    assert found["n-grams, a quarter of the pairs"]["accuracy"]["mean"] > 0.9


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.55, 0.6, "holds"), (0.48, 0.52, "undecided"), (0.4, 0.49, "fails")],
)
def test_a_coin_within_the_interval_leaves_the_claim_undecided(low, high, verdict):
    assert claims_at((low, high))[0].verdict == verdict


def claims_at(coin, *, rule=(0.01, 0.03), dpo=(0.0, 0.02), rule_accuracy=0.55):
    """The claims of a reward model with these ends of its accuracy and of two leads."""
    widest = {"widest": [sum(coin) / 2, *coin], "mean": sum(coin) / 2}
    leads = {"reward_minus_length_rule": rule, "dpo_minus_reward": dpo}
    measured = {"reward model": widest, "length rule": {"mean": rule_accuracy}}
    return make_claims(
        {name: {"accuracy": x} for name, x in measured.items()},
        {name: {"widest": [sum(x) / 2, *x]} for name, x in leads.items()},
        "some pairs",
    )


def test_a_rule_about_lengths_and_a_worse_dpo_take_the_claims_away():
    assert [c.verdict for c in claims_at((0.56, 0.6))] == ["holds"] * 3
    beaten = claims_at((0.56, 0.6), rule=(-0.03, -0.01), dpo=(-0.03, -0.01))
    assert [c.verdict for c in beaten] == ["holds", "fails", "fails"]
    # A rule that is better than the reward model passes DPO's claim too: nothing is told apart.
    assert claims_at((0.56, 0.6), rule_accuracy=0.59)[2].verdict != "holds"


def test_a_trunk_without_a_tokenizer_and_fresh_weights_without_a_trunk_are_refused(tmp_path):
    config = TransformerConfig(
        vocab_size=9, d_model=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4, d_ff=8
    )
    init = jax.jit(make_transformer(config).init)
    save_model(tmp_path, Pretrained(config, init(jax.random.key(0))))
    with pytest.raises(UserError, match="has no tokenizer"):
        read_trunk(Config(trunk=tmp_path))
    with pytest.raises(UserError, match=r"none/config\.json"):
        read_trunk(Config(trunk=tmp_path / "none"))
    with pytest.raises(ValueError, match="fresh must be False without a trunk"):
        Config(fresh=True)


STORIES = Path(__file__).parents[2].parent / "shared" / "models" / "stories260k"


@pytest.mark.skipif(not STORIES.exists(), reason="needs shared/models/stories260k")
def test_a_trunk_gives_its_tokenizer_shape_and_weights(tmp_path):
    config = replace(toy(write_rows(tmp_path / "pairs.jsonl", marker_rows(8))), trunk=STORIES)
    tools, source = make_tools(config, 4), read_source(config)
    assert tools.lab.model.config.num_layers == 5
    assert tools.trunk is not None
    data = fold_data(source.folds[0], source, config, tools.lab.vocabulary)
    assert data.vocabulary is tools.lab.vocabulary
    assert data.cut["prompts"].all()
    assert not data.cut["answers"].any()
    assert read_pairs(data.vocabulary, data.test_rows)[0].chosen == data.test[0].chosen
    trunks = [read_trunk(replace(config, fresh=fresh)).params["trunk"] for fresh in (False, True)]
    assert not np.allclose(*(trunk["embed"] for trunk in trunks))


def test_a_fit_of_one_update_is_refused(tmp_path):
    config = replace(toy(tmp_path), reward=Fit(epochs=0.001, learning_rate=1e-3))
    message = "reward.epochs = 0.001 of 24 pairs is one update of 8, at rate 0: raise reward.epochs"
    with pytest.raises(UserError, match=message):
        make_tools(config, 24)


def test_numbers_that_are_not_finite_are_no_result():
    check_finite("fold-1", {"margins": {"dpo": np.ones(2)}})
    broken = {"dpo": np.ones(2), "ngrams": np.array([1.0, np.nan])}
    with pytest.raises(DivergedError, match="fold-1: margins of ngrams are not finite"):
        check_finite("fold-1", {"margins": broken})


def test_perplexity_falls_and_kl_is_positive(finished):
    _, outcome, config = finished
    perplexity = outcome.numbers["perplexity"]
    assert perplexity["untrained"]["mean"] > 0.8 * config.vocab_size
    assert perplexity["sft"]["mean"] < 0.5 * perplexity["untrained"]["mean"]
    assert outcome.numbers["sampled"]["kl"]["mean"] > 0
    data = outcome.numbers["data"]
    assert data["pairs used"] == 48
    assert data["fields"]["left_out"] == ("source",)
    assert data["share of prompts cut"] == 1.0
    assert data["share of answers cut"] == 0.0


def test_report_is_whole_and_holds_no_text_of_the_data(finished):
    out, _, config = finished
    page = (out / "report.html").read_text()
    assert page.count("<img") == 5
    assert len(list((out / "plots").glob("*.png"))) == 5
    assert "gladly" not in page
    assert "left out: source." in page
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == config.folds * config.kept
    assert all(set(row) == {"fold", "prompt", "sft", "dpo"} for row in answers)


def test_resuming_gives_the_same_numbers(finished, tmp_path):
    """Stopped in the middle of fold 1's reward model, and once more in fold 2."""
    _, outcome, config = finished
    for limit in (40, 30, None):
        calls = iter(range(1000))

        def stop(calls=calls, limit=limit):
            return 15 if limit is not None and next(calls) > limit else 0

        try:
            with open_run(
                tmp_path / "out", slug="preferences", config=config, resume=True, stop=stop
            ) as job:
                again = run(config, job)
        except Interrupted:
            assert limit is not None
            continue
        assert limit is None
        assert again.numbers == outcome.numbers
        assert again.claims == outcome.claims
        assert (tmp_path / "out" / "metrics.jsonl").read_text() == (
            finished[0] / "metrics.jsonl"
        ).read_text()


def test_a_changed_file_is_refused_on_resuming(finished):
    out, _, config = finished
    text = config.data.read_text()
    try:
        write_rows(config.data, marker_rows(40))
        with (
            open_run(out, slug="preferences", config=config, resume=True) as job,
            pytest.raises(UserError, match="not the file"),
        ):
            run(config, job)
    finally:
        config.data.write_text(text)


def test_no_dialogue_is_on_both_sides_and_the_tokenizer_sees_one(tmp_path):
    """Each opening comes twice, with and without a second turn; each has a word of its own."""
    rows = []
    for i in range(12):
        word = "".join(chr(ord("a") + (i + j) % 12) for j in range(6)) * 2
        opening = f"\n\nHuman: {word}\n\nAssistant:"
        for prompt in (opening, f"{opening} yes\n\nHuman: and?\n\nAssistant:"):
            rows.append({"chosen": f"{prompt} one {i}", "rejected": f"{prompt} two {i}"})
    config = replace(toy(write_rows(tmp_path / "pairs.jsonl", rows)), folds=3, vocab_size=2000)
    source = read_source(config)
    assert sorted(np.concatenate([fold.test for fold in source.folds])) == list(range(24))
    for fold in source.folds:
        train, test = ([source.pairs[i] for i in part] for part in fold)
        seen = {dialogue_opening(pair.prompt) for pair in train}
        unseen = {dialogue_opening(pair.prompt) for pair in test}
        assert seen
        assert not seen & unseen
        tokenizer = train_vocabulary(train, config).tokenizer
        lengths = {o: len(tokenizer.encode(o.split()[-1]).ids) for o in seen | unseen}
        assert max(lengths[o] for o in seen) < min(lengths[o] for o in unseen)


def test_length_baselines_by_hand():
    """Characters; a tie counts one half."""
    pairs = [Pair("p", "abc", "a"), Pair("p", "ab", "abcd"), Pair("p", "ab", "cd")]
    margins = length_margins([*pairs, Pair("p", "abcd", "ab")])
    assert margins.tolist() == [2, -2, 0, 2]
    groups = [np.arange(2), np.arange(2, 4)]
    longer = evaluate.judge([margins[:2], margins[2:]], groups, probs=False)["accuracy"]
    shorter = evaluate.judge([-margins[:2], -margins[2:]], groups, probs=False)["accuracy"]
    assert longer["folds"] == [0.5, 0.75]
    assert shorter["folds"] == [0.5, 0.25]
    assert longer["mean"] == pytest.approx(0.625)


def test_fold_interval_by_hand():
    """K = 2: mean 0.6, s = 0.1 sqrt 2, t = 12.706."""
    mean, low, high = evaluate.fold_interval([0.5, 0.7])
    assert (mean, low, high) == pytest.approx((0.6, 0.6 - 1.2706, 0.6 + 1.2706), abs=1e-3)


def test_pair_interval_by_hand():
    """Every pair its own group: s / sqrt N. Doubled pairs count once."""
    x = np.array([0.0, 1.0, 1.0, 1.0])
    _, low, high = evaluate.pair_interval(x, np.arange(4))
    assert (high - low) / 2 == pytest.approx(1.959964 * 0.5 / 2)
    twice = evaluate.pair_interval(np.repeat(x, 2), np.repeat(np.arange(4), 2))
    assert twice == pytest.approx(evaluate.pair_interval(x, np.arange(4)))


def test_even_batches_and_first_rows():
    assert [b.tolist() for b in even_batches(5, 2)] == [[0, 1], [2, 3], [4, 0]]
    assert first_of_each(np.array([7, 3, 7, 1, 3]), 2).tolist() == [0, 1]


def test_prompts_keep_their_end_and_answers_their_start(tmp_path):
    config = replace(toy(write_rows(tmp_path / "p.jsonl", marker_rows(8))), answer_tokens=3)
    source = read_source(config)
    vocabulary = train_vocabulary(source.pairs, config)
    tokenizer, rows = vocabulary.tokenizer, pair_rows(vocabulary, source.pairs, config)
    assert tokenizer.decode(rows.prompts.ids[0].tolist()).endswith("Assistant:")
    assert source.pairs[0].chosen.startswith(tokenizer.decode(rows.chosen.ids[0].tolist()))
    assert rows.prompts.ids.shape == (8, 8)
    assert prompts_asked(source, config) == 4


def test_what_cutting_costs_is_counted_by_hand(tmp_path):
    """Two tokens of each text, <bos> and <eos> included.

    The bytes of a text of four different letters are its tokens, so " ab" and " abcd" both keep
    " a" (one word each, no merge that spans them occurs twice): equal; prompts "1 q", "2 q" keep
    " q" alone and merge; "q" isn't cut.
    """
    pairs = [Pair("1 q", "ab", "abcd"), Pair("2 q", "ab", "cd"), Pair("q", "a", "b")]
    config = replace(toy(tmp_path), prompt_tokens=2, answer_tokens=2, vocab_size=260)
    vocabulary = train_vocabulary(pairs, config)
    rows = pair_rows(vocabulary, pairs, config)
    lost = lost_by_cutting(rows, [pair.prompt for pair in pairs], vocabulary)
    assert lost["prompts"].tolist() == [True, True, False]
    assert lost["answers"].tolist() == [2, 2, 0]
    assert lost["equal"].tolist() == [True, False, False]
    assert lost["merged"].tolist() == [True, True, False]


def test_pairs_that_are_all_equal_after_cutting_are_refused(tmp_path):
    rows = [{"prompt": f"p{i}", "chosen": "same start a", "rejected": "same start b"} for i in "ab"]
    config = replace(toy(write_rows(tmp_path / "p.jsonl", rows)), answer_tokens=3, vocab_size=260)
    source = read_source(config)
    with pytest.raises(UserError, match="every pair have the same first 3 tokens; raise --answer"):
        fold_data(source.folds[0], source, config, make_tools(config, 8).lab.vocabulary)


def test_sizes_differ_and_need_a_file():
    assert default().data is None
    assert quick().folds < default().folds


BAD = {
    "--folds=1": "folds must be in [2, inf), got 1",
    "--beta=0": "beta must be in (0, inf), got 0",
    "--sft.epochs=0": "sft.epochs must be in (0, inf), got 0",
    "--sft.epochs=nan": "sft.epochs must be in (0, inf), got nan",
    "--vocab-size=100": "vocab_size must be in [260, 65536], got 100",
    "--vocab-size=100000000": "vocab_size must be in [260, 65536], got 100000000",
    "--ngrams.l2=-1": "ngrams.l2 must be in [0, inf), got -1",
    "--ngrams.l2=nan": "ngrams.l2 must be in [0, inf), got nan",
    "--dpo.learning-rate=1e30": "dpo.learning_rate must be in (0, 1], got 1e+30",
    "--fresh": "fresh must be False without a trunk",
    "--num-heads=5": "d_model must be a multiple of 2 num_heads = 10, got 64",
}


@pytest.mark.parametrize("option", BAD)
def test_values_out_of_range_are_named(option, tmp_path, capsys):
    assert main(["run", "preferences", f"--out={tmp_path / 'out'}", option]) == 2
    assert capsys.readouterr().err.startswith(f"error: {BAD[option]}")


def bad_input(tmp_path, capsys, *args) -> str:
    """The one line of a run that is refused with exit code 2."""
    assert main(["run", "preferences", "--out", str(tmp_path / "out"), *args]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_no_file_says_what_is_accepted(tmp_path, capsys):
    error = bad_input(tmp_path, capsys)
    assert "--data FILE" in error
    assert "JSON lines" in error


def test_absent_file(tmp_path, capsys):
    assert "no such file" in bad_input(tmp_path, capsys, "--data", str(tmp_path / "none.jsonl"))


def test_bad_row_is_named(tmp_path, capsys):
    rows = marker_rows(6)
    rows[3]["rejected"] = 3
    path = write_rows(tmp_path / "pairs.jsonl", rows)
    error = bad_input(tmp_path, capsys, "--data", str(path))
    assert "row 4: field rejected: expected text, found a number" in error


def test_missing_field_in_gzip_is_named(tmp_path, capsys):
    rows = marker_rows(6)
    del rows[1]["chosen"]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "pairs.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    error = bad_input(tmp_path, capsys, "--data", str(tmp_path / "pairs.jsonl.gz"))
    assert "row 2: field chosen is missing" in error


def test_too_few_prompts_for_the_folds(tmp_path, capsys):
    path = write_rows(tmp_path / "pairs.jsonl", marker_rows(3))
    error = bad_input(tmp_path, capsys, "--data", str(path))
    assert "folds must be between 2 and the number of distinct prompts (3), got 5" in error
