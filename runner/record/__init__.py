"""The run folder: journal, image files, manifest, resume and verify."""
