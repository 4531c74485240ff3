"""Tables as data: named columns out of CSV, Parquet, pandas and Hugging Face `datasets`.

May import: errors, missing_values.
"""
