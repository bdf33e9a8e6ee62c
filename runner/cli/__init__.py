"""The command line: commands, exit codes, nothing else."""
