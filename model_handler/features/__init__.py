"""Features: what a network computes of its inputs, in memory (`features`) or in a directory of shards that is read in
parts (`sharded_features`). A shard is a file of `shard_files`, all together are listed in one of `manifests`, and
`parquet` writes them for other tools. Who computes them is in `extraction`, who writes shards in `feature_shards`.

May import: data, errors, files.
"""

from model_handler.features.features import Features
from model_handler.features.sharded_features import ShardedFeatures

__all__ = ["Features", "ShardedFeatures"]
