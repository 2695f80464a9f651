"""The commands: they turn flags into one call, print results on stdout and talk on stderr."""
