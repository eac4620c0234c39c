"""Order of scored rollouts: strategies and tie rules (`strategies`), and an external merge sort in Arrow.

sort.sorted_run       a table ──▶ a sorted run and a sample of its keys
splitters             samples ──▶ bounds ──▶ cuts of the sorted whole into files of an exact number of rows
"""
