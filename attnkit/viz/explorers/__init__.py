"""One script and one Python file for each kind of explorer; `attnkit.viz` exports the functions that make them."""
