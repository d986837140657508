"""Hold the commands by what they do: run the service, look, or act."""
