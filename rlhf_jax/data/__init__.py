"""Text and records on the host, in NumPy: tokenise, pad, pack, split, store, read.

Import the module that is needed; nothing is imported here, so that reading a preference file
does not load `tensorflow_datasets` (`store`), `grain` (`loader`) or `tokenizers` (`tokenizer`).
"""
