"""Load tests: what an operator may expect of the service, measured from outside."""
