"""What the providers on Amazon Bedrock share: the way to it, and the bodies of its models."""
