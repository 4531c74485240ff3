"""Three lines of transfer: an ImageNet network learns handwritten digits from 200 examples.

Run it as it stands: python demos/three_lines.py. It needs no network connection and takes about half a minute.
"""

import numpy as np
from sklearn.datasets import load_digits

from repurpose import LrRepurposer

digits = load_digits()
images = (digits.images * (255 / 16)).round().astype(np.uint8)  # 1,797 scans of 8 x 8 pixels
labels = digits.target

# The three lines. Names, a DataLoader, a folder of photographs or a list of files would do as well as arrays.
repurposer = LrRepurposer("efficientnet-lite0", feature_layer_names=["_avg_pooling"], random_state=0)
repurposer.repurpose((images[:200], labels[:200]))
probabilities = repurposer.predict_probability(images[200:300])

predicted = repurposer.classes_[probabilities.argmax(axis=1)]
print(f"accuracy on 100 other digits: {np.mean(predicted == labels[200:300]):.2f}")
for row in range(5):
    best = probabilities[row].max()
    print(f"digit {labels[200 + row]}: predicted {predicted[row]} with probability {best:.2f}")
