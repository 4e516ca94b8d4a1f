"""Datasets: the annotation table, its boxes and votes, the split, class folders, decoded images."""
