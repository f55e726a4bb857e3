"""TFDS builders of public sets of feedback, from files that you have downloaded.

    from rlhf_jax.data.sets.hh_rlhf import HhRlhf

    builder = HhRlhf(data_dir="tfds", manual_dir="downloads/hh_rlhf")
    builder.download_and_prepare()
    pairs = builder.as_data_source("train")  # array_record: random access, no TensorFlow

| module | set | records |
|---|---|---|
| `hh_rlhf` | Anthropic hh-rlhf | pairs of dialogues |
| `qa_feedback` | QA-feedback of Fine-Grained RLHF | pairs |
| `shp` | Stanford Human Preferences | pairs, margin in votes |
| `ultrafeedback` | UltraFeedback | pairs, margin in ratings |
| `helpsteer2` | HelpSteer 2 | pairs of dialogues, margin in helpfulness |
| `stack_exchange` | Stack Exchange preferences | pairs, margin in `pm_score` |
| `tldr` | TL;DR comparisons | pairs |

A file belongs to the split that its name says (train, test, validation or dev), else to "train".
The files are read by `data.formats`; a builder names the format and nothing else.
"""
