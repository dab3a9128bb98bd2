"""What happened: states, outcomes and records on disk."""
