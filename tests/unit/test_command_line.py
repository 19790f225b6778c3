"""How the words of a command line are read, and by which modules."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import typer

from leakharness.cli import HOME, make_app, read_simply


def test_a_command_that_starts_often_is_declared_where_the_table_says() -> None:
    """Only that module is imported for it."""
    whole = typer.main.get_command(make_app())
    for word in HOME:
        part = typer.main.get_command(make_app(word))
        assert [param.name for param in part.commands[word].params] == [p.name for p in whole.commands[word].params]
        assert len(part.commands) < len(whole.commands)


@pytest.mark.parametrize(
    "value", ["0", "-7", "12", "007", "1.5", "1e3", "-0.25", "1_000", "x", "", " 5", "0x10", "nan"]
)
def test_a_number_is_read_as_typer_reads_it(value: str) -> None:
    """The short way of reading a value, and the usual one: the same value, or the same words of what is wrong."""

    def said(simply: bool) -> Any:
        got: list[Any] = []
        app = typer.Typer()

        @app.command()
        def command(
            whole: int = 0,
            number: float | None = None,
            text: str = "",
            words: list[str] = [],  # noqa: B006
            least: Annotated[int, typer.Option(min=1)] = 1,
            most: Annotated[float, typer.Option(max=1)] = 1,
            parsed: Annotated[str, typer.Option(parser=str.upper)] = "",
        ) -> None:
            got.append((whole, number, text, list(words), least, most, parsed))

        built = typer.main.get_command(app)
        if simply:
            read_simply(built)
        for option in ("--whole", "--number", "--text", "--words", "--least", "--most", "--parsed"):
            try:
                built([option, value, *([option, "more"] if option == "--words" else [])], standalone_mode=False)
            except Exception as exc:
                got.append(exc.format_message())  # type: ignore[attr-defined]
        return got

    assert repr(said(True)) == repr(said(False))
