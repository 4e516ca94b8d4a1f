"""Inference: the file of a trained model, the device it runs on, and its predictions."""
