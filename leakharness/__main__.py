"""``leakharness`` and ``python -m leakharness``. The one place where errors become exit codes."""

from __future__ import annotations

import sys

__all__ = ["main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""


def main() -> None:
    """Run the command line. Exits; does not return."""
    from leakharness.cli import make_app
    from leakharness.errors import LeakHarnessError

    try:
        make_app()()
    except LeakHarnessError as exc:
        print(f"leakharness: {exc}", file=sys.stderr)
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        print("leakharness: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
