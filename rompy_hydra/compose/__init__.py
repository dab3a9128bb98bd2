"""Hydra and OmegaConf live here, and nowhere else."""
