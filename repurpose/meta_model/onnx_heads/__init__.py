"""Heads as torch modules that a file of ONNX can hold, from features to the probabilities before calibration.

Operations are standard ones that onnxruntime computes in double on any processor, and all is computed in double:
distances between rows that are nearly the same, and variances of rows that were in training, cancel in float32.

May import: meta_model.bnn, meta_model.gp.
"""
