"""Who makes images: one module per provider, looked up by name."""
