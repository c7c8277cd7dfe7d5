"""Programs that stand in for the service and the workers, to be supervised.

They are written to a folder that a test runs `python -m deploy` in. What they do wrong is said
by the environment: `STANDIN_SERVICE` or `STANDIN_WORKER`.
"""

import textwrap
from pathlib import Path


SERVICE = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

fault = os.environ.get("STANDIN_SERVICE", "")
if fault == "refuse":
    sys.exit(78)
if sys.argv[1:] == ["keys", "create", "--tenant", "default"]:
    print("dk_" + os.urandom(8).hex())
    sys.exit(0)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/environment":
            body = "\\n".join(f"{k}={v}" for k, v in os.environ.items()).encode()
        else:
            body = b"ok"
        refused = fault == "unknown-key" and self.path == "/v1/models"
        self.send_response(401 if refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

signal.signal(signal.SIGTERM, lambda *_: (print("service ended", file=sys.stderr), os._exit(0)))
print("service says this", flush=True)
HTTPServer((os.environ["DARKROOM_HOST"], int(os.environ["DARKROOM_PORT"])), Handler).serve_forever()
"""

WORKER = """
import os, signal, subprocess, sys, time

if os.environ.get("STANDIN_WORKER") == "refuse":
    print("the catalog names an unknown provider", file=sys.stderr)
    sys.exit(78)

def end(*_):
    time.sleep(0.1)
    print("worker ended", file=sys.stderr)
    os._exit(0)

signal.signal(signal.SIGTERM, end)
while True:
    time.sleep(60)
"""


def write_standins(folder: Path) -> None:
    """Make `python -m service` and `python -m worker` work in `folder`."""
    for name, text in {"service": SERVICE, "worker": WORKER}.items():
        package = folder / name
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(textwrap.dedent(text))
