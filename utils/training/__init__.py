"""Training: batches, optimizers, the engine, run folders, checkpoints, many processes."""
