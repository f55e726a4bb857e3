"""Flags to options and back, losses by name, and the page of the commands."""

import inspect
import re
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from rlhf_jax import losses
from rlhf_jax.cli.arguments import BadArguments, flags, flat, option_names, parse, read_config
from rlhf_jax.cli.commands import COMMANDS
from rlhf_jax.cli.losses import PAIR_LOSSES, named_loss
from rlhf_jax.cli.measures import distinct, token_loss, variety
from rlhf_jax.cli.offline import Preference
from rlhf_jax.cli.rewards import named_reward
from rlhf_jax.cli.selfplay import SelfPlay, train_selfplay
from rlhf_jax.training import UserError

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
WORDS = ["--model", "m", "--data", "d", "--out", "o"]


def kind_of(command):
    found = COMMANDS[command]
    return getattr(import_module(found.module), found.options)


@pytest.mark.parametrize(
    "more", [[], ["--steps", "3", "--resume", "--loss-options", "beta", "0.2"]]
)
def test_options_become_flags_that_give_the_same_options(more):
    options = parse(Preference, [*WORDS, *more], "preference")
    assert parse(Preference, flags(flat(options)), "preference") == options


def test_every_command_has_flags_of_its_own_names():
    for name in COMMANDS:
        names = list(option_names(kind_of(name)))
        assert len(set(names)) == len(names), name
        function = getattr(import_module(COMMANDS[name].module), COMMANDS[name].function)
        assert list(inspect.signature(function).parameters) == ["command", "options"]


def test_a_file_that_is_no_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"options": {}}')
    with pytest.raises(BadArguments, match="is no config of a run"):
        read_config(tmp_path / "config.json")


def test_every_loss_of_pairs_alone_has_a_name_with_all_of_its_settings():
    """Two or four arrays, and numbers."""
    not_for_pairs = {"sequence_kl_gaps", "odds_ratio_loss", "f_dpo_loss", "gpo_loss"}
    for name, function in vars(losses.preference).items():
        parameters = inspect.signature(function).parameters if callable(function) else {}
        arrays = [each for each in parameters if re.fullmatch(r"(ref_)?\w+ed_(mean_)?logps", each)]
        more = [
            each
            for each, kind in parameters.items()
            if kind.kind is not kind.KEYWORD_ONLY and each not in arrays
        ]
        if not name.endswith("_loss") or len(arrays) < 2 or more or name in not_for_pairs:
            continue
        assert name.removesuffix("_loss") in PAIR_LOSSES, name
    for name in PAIR_LOSSES:
        found = named_loss(name, {})
        signature = inspect.signature(getattr(losses, f"{name}_loss"))
        needed = {
            each
            for each, kind in signature.parameters.items()
            if kind.kind is kind.KEYWORD_ONLY and kind.default is kind.empty
        }
        assert needed <= set(settings(found)), name


def settings(found):
    """The keywords that a named loss is given."""
    assert isinstance(found.loss, partial)
    return found.loss.keywords


def test_losses_are_named_with_dashes_or_underscores_and_their_settings():
    found = named_loss("simpo", {"gamma": 0.5})
    assert settings(found) == {"beta": 2.0, "gamma": 0.5, "label_smoothing": 0.0}
    assert not found.reference
    assert named_loss("robust-dpo", {}).reference
    with pytest.raises(UserError, match="did you mean dpo"):
        named_loss("dpoo", {})


def test_a_reward_may_have_a_weight():
    weight, name, reward, wanted = named_reward("0.5*exact")
    assert (weight, name, wanted) == (0.5, "exact", "answer")
    assert callable(reward)
    with pytest.raises(UserError, match="reward 'nothing'"):
        named_reward("nothing")


def test_variety_and_perplexity_by_hand():
    assert distinct([["a"], ["b"], ["a"], ["c"]]) == 0.75
    assert distinct([]) == 0.0
    # Openings are eight words: two of three differ. The 3-grams: 7 of the first; the second has all
    # of them and h i x; the third has none of its own. So 8 of 7 + 8 + 1 are distinct.
    first = list("abcdefghi")
    found = variety([first, [*first, "x"], ["a", "b", "c"]])
    assert found == {"distinct openings": 2 / 3, "distinct 3-grams": 8 / 16}
    # Answers of 2 and 4 tokens with log-probs -2 and -10: 12 / 6 nats a token, perplexity e^2.
    loss = np.asarray(token_loss(np.array([-2.0, -10.0]), np.array([2, 4])))
    assert loss[0] == 2.0
    # One answer has no interval. Twice its perplexity is log 2 nats a token more.
    one, twice = (
        np.asarray(token_loss(np.array([-10.0 - more]), np.array([4])))
        for more in (0.0, 4 * np.log(2))
    )
    assert np.exp(twice - one) == pytest.approx(2.0)


def test_the_page_has_every_command_and_no_flag_that_does_not_exist():
    text = PAGE.read_text()
    assert [name for name in COMMANDS if f"`{name}`" not in text] == []
    text += PAGE.with_name("reward_models.md").read_text()
    for line in re.findall(r"^rlhf .*$", text.replace("\\\n", " "), re.MULTILINE):
        command = line.split()[1]
        if command == "run":
            continue
        known = set(option_names(kind_of(command))) | {"--help"}
        used = set(re.findall(r"--[a-z-]+", line))
        assert used <= known, line


def test_rounds_of_self_play_do_not_overlap():
    words = ["--model", "m", "--prompts", "p", "--reward", "r", "--out", "o", "--overlap"]
    with pytest.raises(UserError, match="self-play excludes --overlap"):
        train_selfplay("nash-md", parse(SelfPlay, words, "nash-md"))
