"""Reconcile: what queues products, works on them, and looks after what was made."""
