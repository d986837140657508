"""What a product gets, one step a module, all behind the one protocol of `protocol.Step`.

Order is meaning: forwards they make (a finalizer before anything that must be cleaned up, a key
before the file that names it), backwards they release (keys first, the finalizer last).
"""
