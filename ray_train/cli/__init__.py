"""The commands of training and evaluation, such as ``bisieve train``, one per module."""

IMPORTING = "importing torch, transformers and Ray"  # shown first: it takes seconds
