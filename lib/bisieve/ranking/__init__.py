"""Order of scored rollouts: strategies, tie rules, and an external merge sort in Arrow.

strategies            what a rollout is ranked by: a module each
order.with_keys       a table ──▶ its keys;  grouped: keys that need all rollouts of a question or stratum
sort.sorted_run       a table ──▶ a sorted run and a sample of its keys
sort.Cuts             samples ──▶ bounds ──▶ cuts of the sorted whole into files of an exact number of rows
order.best_of         ranked rows ──▶ the best fraction, and the ties behind its end
"""
