"""A benchmark of parts: each part is a module, which measures cells that are kept, and tells and judges them itself.

`runs` says what a part gives and measures what is missing, `verdicts` has how an aim is judged, `report` writes the
page, and `benchmark` is the command line of all. Cells are those of the `adapters` benchmark.
"""
