"""Features of more data than fits into memory are extracted into a directory of shards, and after a break gone on with.

`extracting_to` is what users call; `row_plan` says which rows are which shard, `fingerprint` what they are computed by,
`ranks` which shards are this process's own, `directory` who writes. What is written is read in `features`.
May import: data, errors, extraction, feature_cache, features, files, network, progress, user_warnings.
"""
