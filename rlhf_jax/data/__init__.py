"""Text and records on the host, in NumPy: tokenise, pad, pack, split, store, read.

Import the module you need. Nothing is imported here, so reading a preference file does not load
`tensorflow_datasets` (`store`), `grain` (`loader`) or `tokenizers` (`tokenizer`).
"""
