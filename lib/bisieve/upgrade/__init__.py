"""Brings an index of an older format up to the present one, in place.

A step for each format, in a file of its own, listed in `chain`: it takes the fields of a manifest of that
format and gives those of the next.  It knows these two formats and nothing of the present one, so it stays
as it is when the format changes again: that adds a step, and a test of it.
"""
