"""What a step of the optimiser is made of: losses, averages, checks of gradients, and what to do without memory.

May import: data, plan, distributed, model_handler, repurpose.data.
"""
