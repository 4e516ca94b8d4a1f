"""A trained model: its file, the device it runs on, and its predictions."""
