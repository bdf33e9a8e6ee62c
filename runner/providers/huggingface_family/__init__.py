"""What ``provider=huggingface`` is made of: requests of huggingface_hub, answers of its routes."""
