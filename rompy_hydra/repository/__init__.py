"""A user's config repository on disk: what `init` and `schema --write` put there, and what they leave alone."""
