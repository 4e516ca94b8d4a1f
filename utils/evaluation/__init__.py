"""Evaluation: a trained model's scores on labelled images, and the report of them."""
