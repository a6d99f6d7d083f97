"""HTTP routes: one noun a file, no inference in any of them."""
