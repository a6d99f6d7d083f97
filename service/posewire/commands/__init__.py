"""What the subcommands of `posewire` do. Each returns the process's exit code."""
