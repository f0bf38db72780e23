#!/usr/bin/env python
"""Django's command line: ``manage.py up`` starts everything on one machine."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opscenter.settings")
    from opscenter.processes.json_output import write_json

    write_json(sys.argv)  # before anything else can write a line
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as exc:
        # A bad value in the environment is the person's to change: no traceback.
        print(f"manage.py: {exc}", file=sys.stderr)
        sys.exit(2)
    except Exception as exc:
        from opscenter.core.command_errors import exit_code, is_for_a_person, one_line_reason

        if not is_for_a_person(exc):
            raise
        print(f"manage.py: {one_line_reason(exc)}", file=sys.stderr)
        sys.exit(exit_code(exc))


if __name__ == "__main__":
    main()
