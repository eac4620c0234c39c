"""Corpora of any size with the shape of VisualPRM400K-v1.1-Raw: made once, kept, the same bytes every time.

A batch of rollouts is drawn once and written in either layout, so a corpus in steps holds the same rollouts
as the one in rollouts of its size.
"""
