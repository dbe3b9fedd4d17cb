"""Back ends by name."""
