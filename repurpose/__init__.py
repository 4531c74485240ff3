"""Transfer: reuse a pretrained network for a new task, each method a scikit-learn classifier.

```python
repurposer = LrRepurposer("efficientnet-lite0")  # with the layer before its classifier, or feature_layer_names=[...]
repurposer.repurpose(train_loader)
labels = repurposer.predict_label(test_loader)
```
"""

from model_handler import Features, ImageFolderData, load_source
from repurpose.meta_model import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    MetaModelRepurposer,
    SvmRepurposer,
)
from repurpose.neural_network import (
    NeuralNetworkFineTuneRepurposer,
    NeuralNetworkRandomFreezeRepurposer,
    NeuralNetworkRepurposer,
)
from repurpose.persistence import load
from repurpose.repurposer import Repurposer

__all__ = [
    "BnnRepurposer",
    "Features",
    "GpRepurposer",
    "ImageFolderData",
    "LaplaceRepurposer",
    "LrRepurposer",
    "MetaModelRepurposer",
    "NeuralNetworkFineTuneRepurposer",
    "NeuralNetworkRandomFreezeRepurposer",
    "NeuralNetworkRepurposer",
    "Repurposer",
    "SvmRepurposer",
    "load",
    "load_source",
]
