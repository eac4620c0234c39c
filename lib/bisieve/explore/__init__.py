"""A local page to look at the rollouts of an index: filter, sort, open, change the selection, leave out.

browser ──requests──▶ server ──▶ `Session` ──┬─▶ `Catalog`: DuckDB over the index's Parquet
                                             └─▶ `report`: views, text and images of a rollout
"""
