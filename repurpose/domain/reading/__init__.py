"""What is known of two domains before their rows are: source domains by name, labels of the target, common classes.

May import: repurpose.data, model_handler.
"""
