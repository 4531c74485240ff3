"""Transfer: reuse a pretrained network for a new task, each method a scikit-learn classifier.

```python
repurposer = LrRepurposer("efficientnet-lite0")  # with the layer before its classifier, or feature_layer_names=[...]
repurposer.repurpose(train_loader)
labels = repurposer.predict_label(test_loader)
```
"""

from typing import TYPE_CHECKING, Any

from model_handler import (
    CorruptFileError,
    Features,
    FormatVersionError,
    ImageFolderData,
    ShardedFeatures,
    TableData,
    TarShards,
    UnsafeFileError,
    load_source,
)
from repurpose.meta_model import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    MetaModelRepurposer,
    SvmRepurposer,
)
from repurpose.neural_network import (
    AdapterRepurposer,
    NeuralNetworkFineTuneRepurposer,
    NeuralNetworkRandomFreezeRepurposer,
    NeuralNetworkRepurposer,
)
from repurpose.neural_network.toast import ToastPretuning, ToastRepurposer
from repurpose.persistence import ModelStore, load, signing_key_pair
from repurpose.repurposer import Repurposer
from repurpose.serving import InputSchema
from repurpose.version import own_version

if TYPE_CHECKING:
    from repurpose.labelling.suggesting.first import suggest_first
    from repurpose.labelling.watching.watch import Watch

__all__ = [
    "AdapterRepurposer",
    "BnnRepurposer",
    "CorruptFileError",
    "Features",
    "FormatVersionError",
    "GpRepurposer",
    "ImageFolderData",
    "InputSchema",
    "LaplaceRepurposer",
    "LrRepurposer",
    "MetaModelRepurposer",
    "ModelStore",
    "NeuralNetworkFineTuneRepurposer",
    "NeuralNetworkRandomFreezeRepurposer",
    "NeuralNetworkRepurposer",
    "Repurposer",
    "ShardedFeatures",
    "SvmRepurposer",
    "TableData",
    "TarShards",
    "ToastPretuning",
    "ToastRepurposer",
    "UnsafeFileError",
    "Watch",
    "load",
    "load_source",
    "signing_key_pair",
    "suggest_first",
]

_OF_LABELS = ("Watch", "suggest_first")


def __getattr__(name: str) -> Any:
    """Read `__version__` from the installation when it is first asked for, as that looks through directories.

    What the package of labels offers, too, is imported when it is asked for.
    """
    if name in _OF_LABELS:
        from repurpose import labelling

        return getattr(labelling, name)
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return own_version()
