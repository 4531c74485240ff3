"""Networks trained on two domains or tasks at once: what each batch is made of, and what is read inside the network.

May import: neural_network, model_handler.
"""
