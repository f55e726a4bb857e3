"""No group on both sides of a fold, every row tested once, folds of one size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data.splits import dialogue_groups, dialogue_opening, kfold


@given(
    groups=st.lists(st.integers(0, 12), min_size=2, max_size=80).filter(lambda g: len(set(g)) > 1),
    seed=st.integers(0, 2**40),
    data=st.data(),
)
def test_kfold_properties(groups, seed, data):
    folds = data.draw(st.integers(2, len(set(groups))))
    result = kfold(groups, folds=folds, seed=seed)
    assert len(result) == folds
    everything = np.arange(len(groups))
    tested = np.concatenate([fold.test for fold in result])
    np.testing.assert_array_equal(np.sort(tested), everything)
    for fold in result:
        np.testing.assert_array_equal(np.sort(np.concatenate(fold)), everything)
        assert {groups[i] for i in fold.train}.isdisjoint(groups[i] for i in fold.test)
        assert len(fold.test) > 0
    sizes = [len(fold.test) for fold in result]
    assert max(sizes) - min(sizes) <= max(groups.count(g) for g in groups)


def test_kfold_is_fixed_by_its_seed_and_differs_between_seeds():
    groups = [f"prompt {i // 2}" for i in range(40)]
    once, again, other = (kfold(groups, folds=4, seed=s) for s in (3, 3, 4))
    assert all(np.array_equal(a.test, b.test) for a, b in zip(once, again, strict=True))
    assert not all(np.array_equal(a.test, b.test) for a, b in zip(once, other, strict=True))
    # Written down once: the same in every process and version, whatever PYTHONHASHSEED is.
    assert [f.test.tolist() for f in kfold(list("abcdef"), folds=3, seed=1)] == [
        [2, 4],
        [0, 5],
        [1, 3],
    ]


def test_single_rows_give_folds_that_differ_by_at_most_one():
    sizes = [len(fold.test) for fold in kfold(range(103), folds=10, seed=0)]
    assert sorted(set(sizes)) == [10, 11]


def test_opening_groups_prompts_of_one_dialogue():
    short = "\n\nHuman: hello\n\nAssistant:"
    long = short + " hi\n\nHuman: and now?\n\nAssistant:"
    assert dialogue_opening(short) == dialogue_opening(long) == "Human: hello"
    assert dialogue_opening(" a question ") == "a question"


def test_questions_behind_one_greeting_are_told_apart():
    """Sixty dialogues with one opening, each with a prompt of two and one of three human turns."""
    hi = "\n\nHuman: hi\n\nAssistant:"
    second = [f"{hi} hello\n\nHuman: question {i}\n\nAssistant:" for i in range(60)]
    third = [f"{prompt} answer\n\nHuman: and?\n\nAssistant:" for prompt in second]
    assert len({dialogue_opening(prompt) for prompt in second + third}) == 1
    groups = dialogue_groups([*second, *third], folds=5)
    assert groups[:60] == groups[60:]
    assert len(set(groups)) == 60
    # Where a fold has room for all of them, they stay together: 12 of 60 rows, 5 folds.
    others = [f"\n\nHuman: {i}\n\nAssistant:" for i in range(48)]
    groups = dialogue_groups([*second[:12], *others], folds=5)
    assert len(set(groups)) == 49
    assert len(set(dialogue_groups([hi] * 3, folds=2))) == 1


def test_dialogues_that_the_assistant_begins_differ_by_their_first_question():
    start = "\n\nAssistant: How can I help?\n\nHuman: "
    prompts = [f"{start}question {i}\n\nAssistant:" for i in range(4)]
    assert dialogue_opening(prompts[0]).endswith("Human: question 0")
    assert len({dialogue_opening(prompt) for prompt in prompts}) == 4
    longer = f"{prompts[0]} so\n\nHuman: thanks\n\nAssistant:"
    assert dialogue_opening(longer) == dialogue_opening(prompts[0])


def test_kfold_errors():
    with pytest.raises(ValueError, match=r"between 2 and .* \(2\), got 3"):
        kfold(["a", "b", "a"], folds=3, seed=0)
    with pytest.raises(ValueError, match="got 1"):
        kfold(["a", "b"], folds=1, seed=0)
    with pytest.raises(ValueError, match="seed must be >= 0"):
        kfold(["a", "b"], folds=2, seed=-1)
