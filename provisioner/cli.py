"""The command line: what an operator types, and help that teaches.

Every import of weight happens within a command, so that `--help` is instant.
"""

from __future__ import annotations

import sys

import click

from provisioner import __version__
from provisioner.commands import acting, keeping, looking, running, upgrading

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="provisioner")
def cli() -> None:
    """Give every data product of the portal a workspace, an S3 prefix and scoped credentials.

    \b
    New here?            provisioner demo            (everything embedded, nothing to set up)
    Careful?             provisioner plan --all      (reads your portal, touches nothing)
    All set up?          provisioner doctor          (examines, and tries throw-away keys)
    Ready?               provisioner serve           (hears webhooks, reconciles)
    What is going on?    provisioner status

    Settings come from the environment (PROV_DPP_API_URL, WEBHOOK_SECRET, S3_ENDPOINT, ...); each
    can also be given as NAME_FILE. docs/settings.md lists them all.
    """  # noqa: D301 - click wants the backspace itself


for _command in (
    running.serve,
    running.demo,
    looking.plan,
    looking.status,
    looking.contract,
    looking.doctor,
    acting.reconcile,
    acting.rotate,
    upgrading.upgrade,
    acting.adopt,
    acting.purge,
    acting.resync,
    acting.reseal,
    acting.migrate,
    keeping.backup,
    keeping.restore,
    looking.render,
):
    cli.add_command(_command)


def main() -> None:
    """Run a command; settings that are wrong end with 2, anything else that we know with 1."""
    from provisioner import errors

    try:
        cli()
    except errors.ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except errors.ProvisionerError as error:
        click.echo(f"provisioner: {error}", err=True)
        sys.exit(1)
