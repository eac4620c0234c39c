"""The index, the published artefact: a directory with a manifest and Parquet files, one folder a version.

write   writer (data files) ──▶ manifest.publish
read    reader.open_index ──▶ `Index` ──▶ selection.read_selection
manage  versions (list, clean, gate), rerank (other parameters, no shard read)
"""
