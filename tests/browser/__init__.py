"""The gallery page in a real browser."""
