"""What makes the book and the labs: notebooks from MyST sources, twins, the execution cache, the site."""
