"""What goes over the wire, used by server and client."""
