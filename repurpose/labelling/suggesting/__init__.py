"""Rows whose labels would teach most are suggested here, before there is any label and after.

May import: data, meta_model.gp, seeding, selection.results, uncertainty, model_handler.
"""
