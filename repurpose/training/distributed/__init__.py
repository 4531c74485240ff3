"""Process groups: one process, distributed data parallel, fully sharded.

May import: data, plan, model_handler, repurpose.data.
"""
