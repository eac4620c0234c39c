"""The commands of training and evaluation, such as ``bisieve train``, one per module."""
