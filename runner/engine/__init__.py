"""Schedules calls: limits, retries, budget, stop, progress."""
