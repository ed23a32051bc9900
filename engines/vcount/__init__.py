"""What the steps of the chain share: data, targets, augmentation, networks, metrics."""
