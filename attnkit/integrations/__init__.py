"""attnkit inside other libraries. Nothing here is loaded, or changes another library, unless it is asked to."""
