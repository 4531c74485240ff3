"""Files that may come from anywhere: read as far as they are whole, written as a whole or not at all.

`regular_files` opens, `array_files` holds arrays beside a text, `canonical_json` is that text, `whole_files` writes,
`locks` tells who is writing. Nothing read here is executed. May import: errors.
"""
