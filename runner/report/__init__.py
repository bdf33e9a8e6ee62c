"""Derived pages: the gallery and the contact sheet. Reads a run folder, never fails a run."""
