"""Make principals, policies and keys, one module for each kind of engine."""
