"""States, names, quantities and the files a person writes. No I/O."""
