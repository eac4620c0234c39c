"""The engine of one machine: tasks run in processes, data is in files of a temporary folder; no Java needed.

`engine` implements the interface of `bisieve.pipeline.engine` on the worker processes of `processes`.
"""
