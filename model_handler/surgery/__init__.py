"""Surgery: edits of a network, of which parts of it learn, and the history that undoes them.

May import: errors, extraction, graph, network.
"""
