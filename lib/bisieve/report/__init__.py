"""Reports as one HTML file that opens offline: charts, tables and rollouts, light, dark and on paper.

index ──collect──▶ IndexReport (numbers) ──index_page──▶ Page (blocks) ──html.render──▶ HTML

`page` and `html` know nothing of an index: whatever has Vega-Lite specifications and tables can be a page.
"""
