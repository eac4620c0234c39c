"""An external sort in Arrow: sorted runs in, files of an exact number of rows out; no engine is known here.

    rows ──▶ sorted runs ──samples──▶ bounds ──counts──▶ cuts ──▶ pieces a file ──▶ merged file

Any engine can carry the bytes.  No step holds more than a run or a file, however the keys are distributed:
keys are unique, so a giant group or a giant block of ties is cut like anything else.
"""
