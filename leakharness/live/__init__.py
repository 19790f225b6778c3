"""Looking at the heap of a running CPython from outside: nothing runs in it, and nothing in it is written."""
