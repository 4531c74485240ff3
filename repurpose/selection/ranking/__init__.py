"""Sources are ranked here before anything is trained on them, by one extraction each.

May import: results, repurpose.data, repurpose.meta_model, repurpose.parameters, repurpose.seeding, repurpose.threads,
repurpose.uncertainty, model_handler.
"""
