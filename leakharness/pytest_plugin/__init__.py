"""The pytest plugin; :mod:`leakharness.pytest_plugin.hooks` is what pytest loads."""
