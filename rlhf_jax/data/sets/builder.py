"""What the builders share: files of a manual directory -> pairs -> array_record."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from rlhf_jax.data.containers import has_data_suffix, split_of
from rlhf_jax.data.formats import Tally, stream_records
from rlhf_jax.data.records import Pair, with_messages

_TEXT = tfds.features.Text


class PairBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder of pairs; a subclass says the format. TFDS can only be used by inheritance.

    FORMAT: a name of `data.formats.FORMATS`. SOURCE: owner and name of the set. MARGIN: whether
    records have a margin. DIALOGUES: whether prompt and answers are messages, not texts.

    Args:
      manual_dir: folder of the downloaded files, or of folders of them.
      options: of `tfds.core.DatasetBuilder`, e.g. `data_dir`.
    """

    VERSION: ClassVar[Any] = tfds.core.Version("1.0.0")
    FORMAT: ClassVar[str]
    SOURCE: ClassVar[str]
    MARGIN: ClassVar[bool] = False
    DIALOGUES: ClassVar[bool] = False

    def __init__(self, *, manual_dir: Path | str, **options: Any):
        self._files = Path(manual_dir)
        super().__init__(**{"file_format": "array_record"} | options)

    def _info(self) -> tfds.core.DatasetInfo:
        turns = tfds.features.Sequence({"role": _TEXT(), "content": _TEXT()})
        features: dict[str, Any] = {
            name: turns if self.DIALOGUES else _TEXT() for name in ("prompt", "chosen", "rejected")
        }
        if self.MARGIN:
            features["margin"] = np.float32
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            description=f"Pairs of {self.SOURCE}.",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Any]]]:
        splits: dict[str, list[Path]] = {}
        for file in sorted(self._files.rglob("*")):
            if file.is_file() and has_data_suffix(file):
                splits.setdefault(split_of(file) or "train", []).append(file)
        if not splits:
            raise ValueError(
                f"{self._files}: no data file there; download the files of {self.SOURCE} into it"
            )
        return {name: self._generate_examples(files) for name, files in splits.items()}

    def _generate_examples(self, files: list[Path]) -> Iterator[tuple[int, Any]]:
        number = 0
        for file in files:
            for pair in stream_records(file, Tally(), kind="pairs", format=self.FORMAT):
                yield number, self._example(pair)
                number += 1

    def _example(self, pair: Pair) -> dict[str, Any]:
        """One record in the types of `_info`."""
        record = with_messages(pair) if self.DIALOGUES and isinstance(pair.prompt, str) else pair
        example = {name: getattr(record, name) for name in ("prompt", "chosen", "rejected")}
        if self.DIALOGUES:
            example = {
                name: [{k: message[k] for k in ("role", "content")} for message in messages]
                for name, messages in example.items()
            }
        return example | ({"margin": pair.margin} if self.MARGIN else {})
