"""What is intended: frozen data, durations, resources, identity; no I/O."""
