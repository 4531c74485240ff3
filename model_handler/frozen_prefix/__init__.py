"""The frozen prefix: the part of a network that stays as it is in training, found and split from what learns."""
