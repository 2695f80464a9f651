"""The steps that assisted-service gives to a host, one module each."""
