"""Paper-literal implementations that the library is held against."""
