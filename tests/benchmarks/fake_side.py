"""A side of `benchmarks.train` without a library: its losses are known."""

from benchmarks.train.child import Turn, Work, serve


def halving(work: Work, turn: Turn) -> None:
    """1, 1/2, 1/4, ..."""
    loss = 1.0
    while True:
        turn(loss=loss, rows=float(len(work.arrays["prompt"])))
        loss /= 2


def broken(work: Work, turn: Turn) -> None:
    """A side that ends by itself."""
    raise ValueError("no such job here")


if __name__ == "__main__":
    serve({"dpo": halving, "sft": broken}, float)
