"""The commands behind `relume`: each parses its flags, builds, runs, and little else."""
