"""Training: batches, augmentation, the trainer, run folders, checkpoints, several processes."""
