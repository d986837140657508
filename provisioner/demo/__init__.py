"""Stand in for what surrounds the provisioner, to try and test it on one machine."""
