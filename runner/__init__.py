"""Make images in batches: one Hydra config, any provider, a record of how each was made."""

__version__ = "0.1.0"
