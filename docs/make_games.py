"""Copies the figures of docs/games.md from the results of the experiments.

    python docs/make_games.py results/

Each becomes docs/games/<name>.png, in a palette of 256 colours, which is
enough for a plot and a third of the bytes.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parent / "games"
MOST_BYTES = 150_000
# Name on the page -> file under the results.
FIGURES = {
    "last_policies": "nlhf/plots/last_iterate.png",
    "mixture": "nlhf/plots/mixture.png",
    "updates": "nash_mp/plots/updates.png",
    "suite": "egpo/plots/suite.png",
    "histories": "mnpo/plots/grid.png",
    "voices": "shop_nash/plots/exploitability.png",
}


def copy_figures(results: Path, folder: Path = FOLDER) -> list[Path]:
    """Writes folder/<name>.png for every figure, and returns the paths.

    Raises:
      FileNotFoundError: a figure is missing; nothing is written.
      ValueError: a figure is larger than a page should carry.
    """
    missing = [place for place in FIGURES.values() if not (results / place).exists()]
    if missing:
        raise FileNotFoundError(f"not in {results}: {', '.join(missing)}; run the experiments")
    images = {name: few_colours(results / place) for name, place in FIGURES.items()}
    for name, image in images.items():
        if len(image) > MOST_BYTES:
            raise ValueError(f"{FIGURES[name]}: {len(image)} bytes, more than {MOST_BYTES}")
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{name}.png" for name in images]
    for path, image in zip(paths, images.values(), strict=True):
        path.write_bytes(image)
    return paths


def few_colours(path: Path) -> bytes:
    """The PNG with a palette of its own."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        # Octree: median cuts give rare colours away, and curves are thin.
        small = image.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE)
        small.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="folder with the experiments' results")
    for path in copy_figures(parser.parse_args(arguments).results):
        print(path)


if __name__ == "__main__":
    main()
