"""Images made on this machine by diffusers pipelines."""
