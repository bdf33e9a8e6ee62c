"""Pure functions on image bytes: sniffing, hashes, comparison."""
