"""What commands say: lines and tables on the screen, files that are written whole, and mistakes of use.

May import: repurpose, model_handler.
"""
