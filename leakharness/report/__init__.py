"""Results as text, JSON, Markdown and HTML. Pure: a result in, text out."""
