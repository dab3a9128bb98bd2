"""Sweeps: many runs under one scheduler, with a journal that outlives whoever started them."""
