"""Promotion of models, and the lineage of what a run has made; imports neither torch, Ray nor Spark."""
