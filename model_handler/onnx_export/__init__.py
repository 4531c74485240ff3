"""Networks as files of ONNX: their preprocessing of pixels inside, features pooled as extraction pools them.

May import: data, errors, extraction, files, handler, network.
"""
