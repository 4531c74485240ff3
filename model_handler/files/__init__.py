"""Reading and writing files without trust: contents are checked when read, and files are written atomically.

`regular_files` opens, `array_files` holds arrays beside a text, `canonical_json` is that text, `whole_files` writes,
`locks` tells who is writing, `write_errors` what could not be. Nothing read here is executed. May import: errors.
"""
