"""What `check` finds in a config repository, as data and as text: codes, faults, forms of output.  Composes nothing."""
