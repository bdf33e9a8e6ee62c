"""Settings become variants, axes, cells and prices; nothing here sends anything."""
