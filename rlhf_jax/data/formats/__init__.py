"""Files of feedback in the formats people have, as a few kinds of records.

    found = read_rows("pairs.jsonl.gz")             # detected by the columns of the first row
    found = read_rows("nectar.parquet", kind="pairs")       # rankings, as pairs
    found = read_rows("rows.json", format="alpaca")         # or named
    found.records, found.counts, found.note()

A format is one entry of `FORMATS` (`table.py`): its columns, an example and a function from a row
to records. docs/data.md lists them.
"""

from rlhf_jax.data.formats.reading import FileRecords as FileRecords
from rlhf_jax.data.formats.reading import Tally as Tally
from rlhf_jax.data.formats.reading import read_rows as read_rows
from rlhf_jax.data.formats.reading import stream_records as stream_records
from rlhf_jax.data.formats.table import FORMATS as FORMATS
from rlhf_jax.data.formats.table import Format as Format
