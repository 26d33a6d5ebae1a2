"""Files back to captures and profiles: one module a format."""
