"""Weights in files: how a checkpoint is found and opened, and how each published family names its tensors.

`files` finds and opens a folder, `published` reads the config.json of Hugging Face Transformers, `keymap` pairs the
tensors of a file with the parameters of a model; `gpt2`, `bert`, `llama` and `vit` each hold one family's two tables.
"""
