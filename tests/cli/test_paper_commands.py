"""Each policy optimiser is in `rlhf --help`, and a test trains a language policy with it."""

import ast
import importlib
from pathlib import Path

import pytest

from rlhf_jax.cli.arguments import option_names
from rlhf_jax.cli.commands import COMMANDS, PAPERS, manual

TESTS = Path(__file__).parent.parent
LEARNS = ("recipes/test_methods.py", "test_a_method_makes_the_rewarded_word_likely")
# experiment -> words of the manual, file and test that trains tokens.
OPTIMISERS = {
    "pf_ppo": ("PF-PPO", "cli/test_filter_options.py", "test_a_run_learns_from_the_kept_answers"),
    "raft": ("RAFT", *LEARNS),
    "superhf": (
        "superhf",
        "recipes/test_methods.py",
        "test_a_method_makes_the_rewarded_word_likely",
    ),
    "p3o": ("p3o", *LEARNS),
    "pro": ("pro", "recipes/test_ranked_lists.py", "test_each_loss_makes_the_best_word_likely"),
    "osp": ("osp", "recipes/test_self_preference.py", "test_osp_makes_the_preferred_word_likely"),
    "rlhf_workflow": (
        "RLHF workflow",
        "cli/test_selfplay_commands.py",
        "test_online_dpo_pairs_what_is_least_known",
    ),
    "mistral_plus": (
        "Mistral-Plus",
        "experiments/test_shop_methods_controls.py",
        "test_every_method_moves_the_policy",
    ),
    "dpa": (
        "DPA",
        "recipes/test_directions_recipe.py",
        "test_a_transformer_is_trained_on_prompts_that_show_their_direction",
    ),
    "pit": (
        "PIT",
        "recipes/test_improvement.py",
        "test_an_improver_learns_from_pairs_and_then_from_gaps",
    ),
    "dpo_survey": ("DPO survey", "cli/test_pair_losses.py", "test_a_loss_of_pairs_trains_a_model"),
}


@pytest.mark.parametrize("slug", OPTIMISERS)
def test_each_optimiser_is_in_the_manual_and_trains_a_language_policy(slug):
    words, file, name = OPTIMISERS[slug]
    assert words in manual()
    assert (TESTS.parent / "experiments" / slug / "run.py").is_file()
    functions = [x.name for x in ast.parse((TESTS / file).read_text()).body if hasattr(x, "name")]
    assert name in functions


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_that_is_an_option_names_options_that_are_there(paper):
    for use in PAPERS[paper]:
        command, _, rest = use.partition(" --")
        found = COMMANDS[command]
        options = getattr(importlib.import_module(found.module), found.options)
        named = [f"--{each.partition(' ')[0]}" for each in rest.split(" --")]
        assert named
        assert set(named) <= {*option_names(options)}
