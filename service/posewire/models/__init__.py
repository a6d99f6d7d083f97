"""What is known of every model, and where its verified file lies."""
