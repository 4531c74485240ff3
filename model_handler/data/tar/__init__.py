"""Tar files of images and labels, as WebDataset lays them out, are read where they are, and never extracted.

`tar_shards` is the data, `tar_index` finds the members of one file, `braces` are patterns of names.
May import: errors.
"""
