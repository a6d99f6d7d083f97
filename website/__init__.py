"""The documentation site: what is generated for it. It is no part of the service."""
