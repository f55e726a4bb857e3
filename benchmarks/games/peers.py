"""The same iterations written by others: NumPy in two layouts, torch game by game.

One iteration, in probabilities p and q and log-probs l of a policy:
base = (1 - eta beta) l + eta beta log mu,   q = softmax(base + eta P p),
l+ = log_softmax(base + eta P q),   p+ = exp l+.
"""

import importlib
import importlib.util

import numpy as np


def torch_is_there() -> bool:
    """Whether the peer of extra `parity` is installed."""
    return importlib.util.find_spec("torch") is not None


def numpy_games_first(
    prefs: np.ndarray, ref: np.ndarray, *, eta: float, beta: float, iterations: int
) -> np.ndarray:
    """As the arrays come, [G, n, n] and [G, n]: a batched product, sums over the last axis."""
    logps, probs, base, scores = ref.copy(), np.exp(ref), np.empty_like(ref), np.empty_like(ref)
    column, pull = np.empty_like(ref[..., :1]), eta * beta * ref

    def shifted() -> None:
        """scores = base + eta P probs less its largest; probs = its exponential; their sums."""
        np.matmul(prefs, probs[..., None], out=scores[..., None])
        np.multiply(scores, eta, out=scores)
        np.add(scores, base, out=scores)
        np.max(scores, axis=-1, keepdims=True, out=column)
        np.subtract(scores, column, out=scores)
        np.exp(scores, out=probs)
        np.sum(probs, axis=-1, keepdims=True, out=column)

    for _ in range(iterations):
        np.multiply(logps, 1.0 - eta * beta, out=base)
        np.add(base, pull, out=base)
        shifted()
        np.divide(probs, column, out=probs)
        shifted()
        np.divide(probs, column, out=probs)
        np.log(column, out=column)
        np.subtract(scores, column, out=logps)
    return probs


def numpy_games_last(
    prefs: np.ndarray, ref: np.ndarray, *, eta: float, beta: float, iterations: int
) -> np.ndarray:
    """Games on the last axis, so that every inner loop is a long one, and eta inside the matrix."""
    columns = np.multiply(prefs.transpose(2, 1, 0), eta, order="C", dtype=ref.dtype)
    ref = np.ascontiguousarray(ref.T)
    logps, probs, base, scores = ref.copy(), np.exp(ref), np.empty_like(ref), np.empty_like(ref)
    row, pull = np.empty_like(ref[0]), eta * beta * ref

    def shifted() -> None:
        """As above."""
        np.einsum("bag,bg->ag", columns, probs, out=scores)
        np.add(scores, base, out=scores)
        np.max(scores, axis=0, out=row)
        np.subtract(scores, row, out=scores)
        np.exp(scores, out=probs)
        np.sum(probs, axis=0, out=row)

    for _ in range(iterations):
        np.multiply(logps, 1.0 - eta * beta, out=base)
        np.add(base, pull, out=base)
        shifted()
        np.divide(probs, row, out=probs)
        shifted()
        np.divide(probs, row, out=probs)
        np.log(row, out=row)
        np.subtract(scores, row, out=logps)
    return probs.T


def torch_game_by_game(
    prefs: np.ndarray, ref: np.ndarray, *, eta: float, beta: float, iterations: int
) -> np.ndarray:
    """One game after another, as a script for a single game is written."""
    torch = importlib.import_module("torch")
    policies = []
    with torch.inference_mode():
        for game, start in zip(torch.tensor(prefs), torch.tensor(ref), strict=True):
            logps, pull = start, eta * beta * start
            for _ in range(iterations):
                base = (1.0 - eta * beta) * logps + pull
                half = torch.log_softmax(base + eta * (game @ logps.exp()), dim=-1)
                logps = torch.log_softmax(base + eta * (game @ half.exp()), dim=-1)
            policies.append(logps.exp().numpy())
    return np.stack(policies)
