"""What the shop's experiments refuse to normalise or to choose by."""

import numpy as np
import pytest

from rlhf_jax.labs.shop import check_scores
from rlhf_jax.labs.shop_ppo import score_scale


def test_a_score_that_is_not_finite_names_its_prompt():
    indices = np.array([30, 7, 12])
    check_scores(indices, np.zeros(3))
    with pytest.raises(ValueError, match=r"prompt 7: .* got nan \(1 of 3"):
        check_scores(indices, np.array([0.1, np.nan, 0.3]))
    with pytest.raises(ValueError, match=r"prompt 7: .* got \[1\.0, inf\] \(2 of 3"):
        check_scores(indices, np.array([[0.1, 0.2], [1.0, np.inf], [-np.inf, 0.0]]))


def test_the_scale_of_scores_is_their_mean_and_deviation():
    # mean 2, squares 1 + 1 over 2
    assert score_scale(np.array([1.0, 3.0])) == {"mean": 2.0, "std": 1.0}
    with pytest.raises(ValueError, match=r"all 4 held-out answers the score 0\.5"):
        score_scale(np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match="1 of 2 held-out scores"):
        score_scale(np.array([1.0, np.nan]))
