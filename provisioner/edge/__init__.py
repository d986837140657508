"""Take in what arrives over HTTP, and answer."""
