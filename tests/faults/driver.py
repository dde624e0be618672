"""Runs commands of `von` in one process: a JSON list of arguments on a line in, a result on a line out."""

import json
import sys
import traceback

from click.testing import CliRunner
from voncli.main import main

for line in sys.stdin:
    result = CliRunner().invoke(main, json.loads(line))
    failed = result.exception is not None and not isinstance(result.exception, SystemExit)
    trace = "".join(traceback.format_exception(result.exception)) if failed else ""
    sys.stdout.write(json.dumps({"code": result.exit_code, "output": result.output, "trace": trace}) + "\n")
    sys.stdout.flush()
