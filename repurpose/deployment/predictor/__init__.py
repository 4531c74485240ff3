"""A predictor for engines that exist: what Ray Data, Spark and `datasets` call with tables, in their processes.

May import: persistence, serving, model_handler.
"""
