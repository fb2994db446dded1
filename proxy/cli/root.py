"""All commands in one tree."""

import typer

from proxy.cli import serve

app = typer.Typer(
    name="connector-proxy",
    help="An authenticating reverse proxy: clients call APIs with a proxy key, the real tokens stay inside.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)


@app.callback()
def _root() -> None:
    """See the commands."""
