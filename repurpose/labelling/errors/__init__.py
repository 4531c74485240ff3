"""Wrong labels are found here, by what a head says of a row that it has not learned from.

May import: data, selection.results, uncertainty, model_handler.
"""
