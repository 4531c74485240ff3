"""Graphs: a network traced to a torch.fx graph whose nodes know their layers, and networks built from graphs.

May import: data, errors, network.
"""
