"""Evidence: what a reviewer needs to know before a model meets customers."""
