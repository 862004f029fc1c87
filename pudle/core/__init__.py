"""The mathematics, as pure functions on tensors on any device. They read no files and no configuration."""
