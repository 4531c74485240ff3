"""What commands read: images in folders and tables, and images with boxes, each with its options.

May import: repurpose, output, model_handler.
"""
