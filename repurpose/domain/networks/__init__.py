"""Networks trained on two domains or tasks at once: what each batch is made of, and what is read inside the network.

May import: distributions, reading, repurpose.data, repurpose.neural_network, repurpose.parameters,
repurpose.persistence, repurpose.seeding, repurpose.training, repurpose.uncertainty, model_handler.
"""
