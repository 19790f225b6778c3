"""Heap graphs: reading, writing, paths, dominators, growth. Pure: values in, values out."""
