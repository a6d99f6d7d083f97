"""The JSON of the API, as pydantic models; server, client and command line use it."""
